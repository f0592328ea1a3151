package identity

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// tagURI is the context-specific tag of uniformResourceIdentifier in a GeneralName (RFC 5280, 4.2.1.6).
const tagURI = 6

// oidSAN is id-ce-subjectAltName (RFC 5280, 4.2.1.6).
func oidSAN() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, 17} }

// generalName is one name of a certificate, of whatever kind, undecoded.
type generalName struct {
	tag   int
	bytes []byte
}

// names reads all subject alternative names from extensions. We do not go by x509.Certificate.URIs: Go leaves out the
// kinds that it does not know, and url.URL forgets how a URI was spelled ("SPIFFE://", an empty fragment), while
// Envoy compares bytes.
func names(extensions []pkix.Extension) ([]generalName, error) {
	var all []generalName
	found := false
	for _, e := range extensions {
		if !e.Id.Equal(oidSAN()) {
			continue
		}
		if found {
			return nil, errors.New("it has two extensions of alternative names")
		}
		found = true
		var sequence asn1.RawValue
		rest, err := asn1.Unmarshal(e.Value, &sequence)
		if err != nil || len(rest) > 0 || sequence.Class != asn1.ClassUniversal || sequence.Tag != asn1.TagSequence || !sequence.IsCompound {
			return nil, errors.New("its alternative names cannot be read")
		}
		for rest = sequence.Bytes; len(rest) > 0; {
			var name asn1.RawValue
			if rest, err = asn1.Unmarshal(rest, &name); err != nil || name.Class != asn1.ClassContextSpecific {
				return nil, errors.New("its alternative names cannot be read")
			}
			all = append(all, generalName{name.Tag, name.Bytes})
		}
	}
	return all, nil
}

// uri reads the one URI among names, byte by byte a SPIFFE ID.
func uri(names []generalName) (spiffeid.ID, error) {
	var uris []string
	for _, n := range names {
		if n.tag == tagURI {
			uris = append(uris, string(n.bytes))
		}
	}
	if len(uris) != 1 {
		return spiffeid.ID{}, fmt.Errorf("it has %d URIs as alternative names, and must have one", len(uris))
	}
	id, err := spiffeid.FromString(uris[0])
	if err != nil {
		return spiffeid.ID{}, fmt.Errorf("its alternative name %q: %w", uris[0], err)
	}
	if id.String() != uris[0] {
		return spiffeid.ID{}, fmt.Errorf("its alternative name %q is not spelled as the SPIFFE ID %q", uris[0], id)
	}
	return id, nil
}
