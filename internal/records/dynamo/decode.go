package dynamo

import (
	"encoding/json"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/designfultech/filestore/internal/records"
)

// decode reads an item leniently (docs/contract.md, "The record"): whatever an attribute
// holds, there is a record, and an attribute that is there but of the wrong type is named in
// Mistyped.
func decode(item map[string]types.AttributeValue) records.Record {
	r := records.Record{Size: -1}

	// str reads a text. What is none is kept as well as it can be; NULL is nothing to keep.
	str := func(name string) string {
		switch v := item[name].(type) {
		case nil:
			return ""
		case *types.AttributeValueMemberS:
			return v.Value
		case *types.AttributeValueMemberNULL:
			r.Mistyped = append(r.Mistyped, name)
			return ""
		default:
			r.Mistyped = append(r.Mistyped, name)
			return asText(v)
		}
	}
	// stamp reads a time. One that is there is set, if only to "null" or `""`: whoever wrote
	// stored_at as NULL meant to store.
	stamp := func(name string) records.Stamp {
		v, ok := item[name]
		if !ok {
			return ""
		}
		if s, ok := v.(*types.AttributeValueMemberS); ok && s.Value != "" {
			return records.Stamp(s.Value)
		}
		r.Mistyped = append(r.Mistyped, name)
		return records.Stamp(asText(v))
	}

	// In the order of the contract's table, which is the order of Mistyped.
	r.ID = str("id")
	r.Name = str("name")
	r.Type = str("type")
	switch v := item["size"].(type) {
	case nil:
	case *types.AttributeValueMemberN:
		r.Size = size(v.Value)
		if r.Size < 0 {
			r.Mistyped = append(r.Mistyped, "size")
		}
	case *types.AttributeValueMemberS:
		r.Size = size(v.Value)
		r.Mistyped = append(r.Mistyped, "size")
	default:
		r.Mistyped = append(r.Mistyped, "size")
	}
	r.Meta = str("meta")
	r.Fingerprint = str("fingerprint")
	r.CreatedAt = stamp("created_at")
	r.UploadedAt = stamp("uploaded_at")
	r.StoredAt = stamp("stored_at")
	r.DeletedAt = stamp("deleted_at")
	return r
}

// size is a number of bytes, -1 for what cannot be one. DynamoDB returns a whole number in
// plain digits, however it was written.
func size(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// asText is the digits of a number, and any other value in JSON. It is never empty.
func asText(v types.AttributeValue) string {
	if n, ok := v.(*types.AttributeValueMemberN); ok && n.Value != "" {
		return n.Value
	}
	text, err := json.Marshal(plain(v))
	if err != nil {
		return "null" // a number that JSON does not know
	}
	return string(text)
}

// plain is v as encoding/json wants it; nil for NULL and for types that the SDK does not know.
func plain(v types.AttributeValue) any {
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return v.Value
	case *types.AttributeValueMemberN:
		return json.Number(v.Value)
	case *types.AttributeValueMemberBOOL:
		return v.Value
	case *types.AttributeValueMemberB:
		return v.Value
	case *types.AttributeValueMemberSS:
		return v.Value
	case *types.AttributeValueMemberNS:
		numbers := make([]json.Number, len(v.Value))
		for i, n := range v.Value {
			numbers[i] = json.Number(n)
		}
		return numbers
	case *types.AttributeValueMemberBS:
		return v.Value
	case *types.AttributeValueMemberL:
		list := make([]any, len(v.Value))
		for i, element := range v.Value {
			list[i] = plain(element)
		}
		return list
	case *types.AttributeValueMemberM:
		object := make(map[string]any, len(v.Value))
		for name, member := range v.Value {
			object[name] = plain(member)
		}
		return object
	default:
		return nil
	}
}
