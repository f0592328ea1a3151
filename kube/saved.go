package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

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
}

type savedText struct {
	Hash string `json:"hash"`
	Text string `json:"text"`
}

// encodeSaved writes a policy. If it is too large, the oldest of its earlier versions are left out.
func encodeSaved(p model.SavedPolicy) ([]byte, error) {
	f := savedForm{
		Namespace: p.ConfigMap.Namespace, ConfigMap: p.ConfigMap.Name, UID: p.UID, Item: p.Item,
		Good: savedText{p.GoodHash, p.Good}, Refused: p.Refused,
	}
	for _, e := range p.Earlier {
		f.Earlier = append(f.Earlier, savedText{e.Hash, e.Text})
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
		case len(f.Earlier) == 0:
			return nil, fmt.Errorf("it takes %d bytes, more than %d: spread it over several documents", b.Len(), maxSaved)
		}
		f.Earlier = f.Earlier[:len(f.Earlier)-1]
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
	p := model.SavedPolicy{
		ConfigMap: model.Key{Namespace: f.Namespace, Name: f.ConfigMap}, UID: f.UID, Item: f.Item,
		Good: f.Good.Text, GoodHash: f.Good.Hash, Refused: f.Refused,
	}
	for _, e := range f.Earlier {
		p.Earlier = append(p.Earlier, model.SavedText{Text: e.Text, Hash: e.Hash})
	}
	return p, nil
}
