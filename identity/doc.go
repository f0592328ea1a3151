// Package identity says who is who in the mesh, and proves it: IDs of workloads, a CA, certificates and tokens for
// them, the bundles by which others verify these, and the rotation of the CA. It knows neither Kubernetes nor the
// network; who asks is found out elsewhere, and where keys are stored is decided elsewhere.
//
//	spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT     the one shape of an identity        id.go
//	CheckCSR, Authority.Issue, VerifyLeaf             from a request to a peer            csr.go, issue.go, lint.go, verify.go
//	Authority, Material                               a CA, and how it is stored          authority.go, material.go
//	Authority.Mint                                    JWT-SVIDs                           jwt.go
//	Merge, Fingerprint, MarshalBundle                 what is trusted, and its name       bundle.go
//	Current, Renewer                                  a certificate that stays fresh      renew.go
//	State                                             rotation                            rotation.go
//
// # Certificates
//
// A leaf is an X509-SVID: P-256, one URI as alternative name, 24 hours, back-dated 5 minutes, for clients and servers, no
// CA. Our own CA adds an extension, 2.25.740135628, not critical: a UTF8String POD/UID, written from what attestation
// found. So any replica knows the pod of a stream, and no client can claim another's.
//
// What is wrong is refused with a [Code], and never put right silently.
//
// # A CA above ours
//
// cert-manager, or a SPIRE server above ours, is one file: a type with the method of keep.Upstream, which signs a CA for a
// CSR. That CA is an [Authority], made by [NewIntermediate]; it writes the leaves, and a rotation replaces it when half
// of its life is over.
//
// # Another issuer
//
// One that signs the leaves themselves is a type with the method of [Issuer]. Package service takes any; package keep does
// not, since what an Authority of ours does is needed elsewhere: streams for configuration, and renewal by certificate, want
// the extension that says which pod it is; and who signed a leaf, which a rotation waits for, is read from its chain. An issuer
// that wants the workload's own CSR has none in [Request]. It must
//
//   - certify exactly r.ID and r.Key, for clients and servers, for r.Lifetime or less, and answer before ctx ends;
//   - answer leaf first, then intermediates, no anchor; and pass the answer through [VerifyLeaf] with its bundle and
//     compare ID and key with the request, because what comes back is another program's word;
//   - write the extension if it can; if it cannot, whoever asks [PodOf] gets an error and must know the pod otherwise;
//   - give its anchors as a bundle of the one trust domain, and say by a [Party] what signs and what trusts it, so that
//     moving to it, and away from it, is a rotation like any other.
//
// If it signs tokens it is a [JWTSigner] too, with its keys in the bundle.
//
// # Rotation
//
// Whoever signs is trusted by everybody before it signs, and until nothing that it signed is in use. [State] goes
//
//	steady       -> introducing   by Begin, on somebody's order
//	introducing  -> signing       when each proxy has the bundle of both authorities in use
//	signing      -> retiring      when no leaf and no token of the old authority is in use
//	retiring     -> steady        when each proxy has the bundle of the new one alone in use
//
// and only [State.Next] moves it on, by what was observed. Time alone moves nothing but what expires by time: a proxy
// without contact for longer than the longest leaf's life has no identity left, and blocks nobody.
//
// One leader drives it: it stores the new State first, then publishes the bundle ([State.Trusted]), then signs
// ([State.Signer]); and it makes sure that it still leads before each of these, signing included. If it dies,
//
//	phase         its death                      what its successor finds and does
//	steady        before Begin is stored         nothing has begun; the order is given again
//	introducing   before the bundle is out       it publishes the bundle of both; until then nobody can report it as taken
//	introducing   while proxies report           it knows no reports (Observation.Remembers), and waits for all of them again
//	signing       before the first new leaf      it signs with the new authority; everybody trusts it already
//	signing       while leaves are replaced      it has not seen all leaves, and waits for sight of them, or for their expiry
//	retiring      before the bundle is out       it publishes the bundle without the old one, of which nothing is in use
//	retiring      before the state is steady     it waits for all reports again
//	any           between Next and storing       Next is asked again; nothing had followed from the answer
//
// And each proxy's agent, for its part,
//
//   - gives Envoy the bundle that came with a leaf before the leaf, or together with it;
//   - puts a leaf in use at once, or never, and does not go back to an earlier one;
//   - drops an answer if it was asked for before the last one that was put in use had come: a slow answer is an old one;
//   - reports what its Envoy has acknowledged, bundle and leaf, and not what it has handed over;
//   - says with a request whether it has a leaf already: then nobody knows which it uses until it reports again.
//
// The keys of the old authority may be destroyed when the state is steady again, not before: [State.Abort] may need them.
// A State that cannot be read, or that names an authority whose keys are not there, is an error for people to mend, and
// never a reason to make a new CA.
package identity
