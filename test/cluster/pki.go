package cluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// pki is the cluster's certificate authority and whom it certifies, as files in a folder that dies with the cluster.
type pki struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte // of cert
}

func newPKI(dir string) (*pki, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of certificates: %w", err)
	}
	p := &pki{dir: dir}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "heddle test cluster"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign,
	}
	var err error
	p.pem, _, err = p.issue("ca", template)
	return p, err
}

// subject is somebody that talks to the API server, under a user name that its built-in roles know.
type subject struct {
	file, user string
	groups     []string
}

func subjects(node string) []subject {
	return []subject{
		{"admin", "admin", []string{"system:masters"}},
		{"apiserver-kubelet", "kube-apiserver", []string{"system:masters"}},
		{"kube-controller-manager", "system:kube-controller-manager", nil},
		{"kube-scheduler", "system:kube-scheduler", nil},
		{"kube-proxy", "system:kube-proxy", nil},
		{"kubelet", "system:node:" + node, []string{"system:nodes"}},
		{"coredns", "system:coredns", nil},
	}
}

// client writes a certificate, a key and a kubeconfig for a subject.
func (p *pki) client(s subject, server string) error {
	cert, key, err := p.issue(s.file, &x509.Certificate{
		Subject:     pkix.Name{CommonName: s.user, Organization: s.groups},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return err
	}
	const name = "heddle-test-cluster"
	config := api.Config{
		Clusters:       map[string]*api.Cluster{name: {Server: server, CertificateAuthorityData: p.pem}},
		AuthInfos:      map[string]*api.AuthInfo{s.file: {ClientCertificateData: cert, ClientKeyData: key}},
		Contexts:       map[string]*api.Context{name: {Cluster: name, AuthInfo: s.file}},
		CurrentContext: name,
	}
	if err := clientcmd.WriteToFile(config, filepath.Join(p.dir, s.file+".kubeconfig")); err != nil {
		return fmt.Errorf("write the kubeconfig of %s: %w", s.file, err)
	}
	return nil
}

// server writes a certificate and a key for the API server.
func (p *pki) server(names []string, addresses []net.IP) error {
	_, _, err := p.issue("apiserver", &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    names, IPAddresses: addresses,
	})
	return err
}

// issue writes NAME.crt and NAME.key. The first certificate is the authority's own.
func (p *pki) issue(name string, template *x509.Certificate) (cert, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key for %s: %w", name, err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, nil, fmt.Errorf("make a serial number for %s: %w", name, err)
	}
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().AddDate(1, 0, 0)
	parent, signer := p.cert, p.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, nil, fmt.Errorf("certify %s: %w", name, err)
	}
	if p.cert == nil {
		if p.cert, err = x509.ParseCertificate(der); err != nil {
			return nil, nil, fmt.Errorf("read the authority's certificate: %w", err)
		}
		p.key = key
	}
	encoded, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the key of %s: %w", name, err)
	}
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded})
	for file, content := range map[string][]byte{name + ".crt": cert, name + ".key": keyPEM} {
		if err := os.WriteFile(filepath.Join(p.dir, file), content, 0o600); err != nil {
			return nil, nil, fmt.Errorf("write a certificate: %w", err)
		}
	}
	return cert, keyPEM, nil
}
