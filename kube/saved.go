package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/heddle-mesh/heddle/model"
)

// maxSaved bounds what is kept of one policy: less than the 1.5 MiB that etcd takes at once.
const maxSaved = 1400 << 10

// savedForm is a saved policy as it is written. It must stay readable for later versions.
type savedForm struct {
	Namespace string      `json:"namespace"`
	ConfigMap string      `json:"configMap"`
	UID       string      `json:"uid"`
	Item      string      `json:"item"`
	Good      savedText   `json:"good"`
	Earlier   []savedText `json:"earlier,omitempty"`
	Refused   []string    `json:"refused,omitempty"`

	Protects *savedService `json:"protects,omitempty"` // nil in what versions before it wrote
}

type savedText struct {
	Hash string `json:"hash"`
	Text string `json:"text"`
	// Packed is the text instead, in base64, where that makes it fit: in JSON each quote and each line break takes two bytes.
	Packed []byte `json:"packed,omitempty"`
}

// ErrTooLarge says that a policy takes more space than there is for one: to try again is of no use.
var ErrTooLarge = errors.New("too large to be kept")

// encodeSaved writes a policy. If it is too large, the oldest of its earlier versions are left out. What is left fits for any
// ConfigMap that Kubernetes takes, unless the Service that it protects has hundreds of ports; if not, the error is ErrTooLarge.
func encodeSaved(p model.SavedPolicy) ([]byte, error) {
	f := savedForm{
		Namespace: p.ConfigMap.Namespace, ConfigMap: p.ConfigMap.Name, UID: p.UID, Item: p.Item,
		Good: savedText{Hash: p.GoodHash, Text: p.Good}, Refused: p.Refused, Protects: serviceForm(p.Protects),
	}
	for _, e := range p.Earlier {
		f.Earlier = append(f.Earlier, savedText{Hash: e.Hash, Text: e.Text})
	}
	for {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(f); err != nil {
			return nil, err
		}
		switch {
		case b.Len() <= maxSaved:
			return b.Bytes(), nil
		case len(f.Earlier) > 0:
			f.Earlier = f.Earlier[:len(f.Earlier)-1]
		case f.Good.Text != "":
			f.Good.Packed, f.Good.Text = []byte(f.Good.Text), ""
		default:
			return nil, fmt.Errorf("%w: it takes %d bytes, more than %d; spread it over several documents", ErrTooLarge, b.Len(), maxSaved)
		}
	}
}

// decodeSaved reads what encodeSaved wrote.
func decodeSaved(data []byte) (model.SavedPolicy, error) {
	var f savedForm
	if err := json.Unmarshal(data, &f); err != nil {
		return model.SavedPolicy{}, fmt.Errorf("read a saved policy: %w", err)
	}
	if f.ConfigMap == "" || f.Item == "" || f.UID == "" {
		return model.SavedPolicy{}, errors.New("read a saved policy: it does not say of what")
	}
	if f.Good.Packed != nil {
		if !utf8.Valid(f.Good.Packed) {
			return model.SavedPolicy{}, errors.New("read a saved policy: its text is not UTF-8")
		}
		f.Good.Text = string(f.Good.Packed)
	}
	protects, err := f.Protects.service()
	if err != nil {
		return model.SavedPolicy{}, fmt.Errorf("read a saved policy: the Service that it protects: %w", err)
	}
	p := model.SavedPolicy{
		ConfigMap: model.Key{Namespace: f.Namespace, Name: f.ConfigMap}, UID: f.UID, Item: f.Item,
		Good: f.Good.Text, GoodHash: f.Good.Hash, Refused: f.Refused, Protects: protects,
	}
	for _, e := range f.Earlier {
		p.Earlier = append(p.Earlier, model.SavedText{Text: e.Text, Hash: e.Hash})
	}
	return p, nil
}
