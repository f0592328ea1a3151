package identity

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"regexp"
	"strings"
)

// maxUID is longer than any UID of Kubernetes, which are UUIDs of 36 bytes.
const maxUID = 64

var uidPattern = regexp.MustCompile(`^[A-Za-z0-9](?:[-_.A-Za-z0-9]*[A-Za-z0-9])?$`)

// oidPod is our own extension, under the arc of UUIDs (ITU-T X.667), with a number that Go can read: its parser refuses
// a certificate with an arc of more than 31 bits, whole.
func oidPod() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 25, 740135628} }

// PodOf reads which pod a leaf was made for, from the extension that our CA writes after attestation. The UID is empty
// without a cluster. It is an error if the extension is missing or cannot be read. Believe it only of a leaf that
// [VerifyLeaf] has accepted.
func PodOf(leaf *x509.Certificate) (pod, uid string, err error) {
	for _, e := range leaf.Extensions {
		if !e.Id.Equal(oidPod()) {
			continue
		}
		var value asn1.RawValue
		rest, err := asn1.Unmarshal(e.Value, &value)
		if err != nil || len(rest) > 0 || value.Class != asn1.ClassUniversal || value.Tag != asn1.TagUTF8String || value.IsCompound {
			return "", "", refuse(CodePodMissing, "read the pod of the certificate with serial number %x: the extension %v is no UTF8String",
				leaf.SerialNumber, oidPod())
		}
		pod, uid, ok := strings.Cut(string(value.Bytes), "/")
		if !ok {
			return "", "", refuse(CodePodMissing, "read the pod of the certificate with serial number %x: %q is not POD/UID",
				leaf.SerialNumber, value.Bytes)
		}
		if err := checkPod(pod, uid); err != nil {
			return "", "", refuse(CodePodMissing, "read the pod of the certificate with serial number %x: %w", leaf.SerialNumber, err)
		}
		return pod, uid, nil
	}
	return "", "", refuse(CodePodMissing, "the certificate with serial number %x does not say which pod it is for; it was issued by another CA, or for no pod",
		leaf.SerialNumber)
}

func podExtension(pod, uid string) (pkix.Extension, error) {
	if err := checkPod(pod, uid); err != nil {
		return pkix.Extension{}, err
	}
	value, err := asn1.MarshalWithParams(pod+"/"+uid, "utf8")
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("encode pod %q: %w", pod, err)
	}
	return pkix.Extension{Id: oidPod(), Value: value}, nil
}

func checkPod(pod, uid string) error {
	if !isSubdomain(pod) {
		return fmt.Errorf("%q is no name of a pod (RFC 1123 subdomain)", pod)
	}
	if uid != "" && (len(uid) > maxUID || !uidPattern.MatchString(uid)) {
		return fmt.Errorf("%q is no UID of a pod", uid)
	}
	return nil
}
