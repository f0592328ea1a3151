package translator

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/heddle-mesh/heddle/model"
)

// This file writes bytes of the messages that assignments hold, as deterministic marshalling would: what is zero is left
// out, and the keys of maps are in their order.

func appendField(b []byte, n protowire.Number, body []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), body)
}

func appendText(b []byte, n protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
}

func appendNumber(b []byte, n protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}

// Numbers of fields of core.v3.Metadata and of google.protobuf.Struct, Value and ListValue.
const (
	metadataFilters protowire.Number = 1
	structFields    protowire.Number = 1
	listValues      protowire.Number = 1
	valueText       protowire.Number = 3
	valueStruct     protowire.Number = 5
	valueList       protowire.Number = 6
	entryKey        protowire.Number = 1
	entryValue      protowire.Number = 2
)

// scratch is room for one message on the stack; append finds more where it does not do.
type scratch [256]byte

// appendEntry writes an entry of the map that is field n.
func appendEntry(b []byte, n protowire.Number, key string, value []byte) []byte {
	var room scratch
	return appendField(b, n, appendField(appendText(room[:0], entryKey, key), entryValue, value))
}

// appendWord writes a field of a Struct that is a string.
func appendWord(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	var room scratch
	return appendEntry(b, structFields, key, appendText(room[:0], valueText, value))
}

// appendWay writes the Metadata that ways give.
func appendWay(b []byte, socket string) []byte {
	var room scratch
	return appendEntry(b, metadataFilters, socketMatch, appendWord(room[:0], matchField, socket))
}

// appendProvenance writes the Metadata that provenance gives.
func appendProvenance(b []byte, origins []model.Origin) []byte {
	var fields, value, list, all scratch
	l := list[:0]
	for _, o := range origins {
		if o.IsZero() {
			continue
		}
		f := appendWord(fields[:0], "hash", o.Hash)
		f = appendWord(f, "item", o.Item)
		f = appendWord(f, "kind", o.Kind)
		f = appendWord(f, "name", o.Key.String())
		f = appendWord(f, "part", o.Part)
		l = appendField(l, listValues, appendField(value[:0], valueStruct, f))
	}
	if len(l) == 0 {
		return b
	}
	return appendEntry(b, metadataFilters, provenanceKey, appendEntry(all[:0], structFields, "origins", appendField(value[:0], valueList, l)))
}
