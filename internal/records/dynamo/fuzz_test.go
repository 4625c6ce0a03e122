package dynamo

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/designfultech/filestore/internal/records"
)

// attributes are those of the contract, in its order.
func attributes() []string {
	return []string{"id", "name", "type", "size", "meta", "fingerprint", "created_at", "uploaded_at", "stored_at", "deleted_at"}
}

// valueOf is text as an attribute of one of DynamoDB's types.
func valueOf(kind uint8, text string) types.AttributeValue {
	s := &types.AttributeValueMemberS{Value: text}
	switch kind % 12 {
	case 0:
		return &types.AttributeValueMemberN{Value: text}
	case 1:
		return &types.AttributeValueMemberB{Value: []byte(text)}
	case 2:
		return &types.AttributeValueMemberBOOL{Value: text != ""}
	case 3:
		return &types.AttributeValueMemberNULL{Value: true}
	case 4:
		return &types.AttributeValueMemberSS{Value: []string{text, text}}
	case 5:
		return &types.AttributeValueMemberNS{Value: []string{text}}
	case 6:
		return &types.AttributeValueMemberBS{Value: [][]byte{[]byte(text)}}
	case 7:
		return &types.AttributeValueMemberL{Value: []types.AttributeValue{s, &types.AttributeValueMemberN{Value: text}}}
	case 8:
		return &types.AttributeValueMemberM{Value: map[string]types.AttributeValue{text: s}}
	case 9:
		return &types.UnknownUnionMember{Tag: text}
	default:
		return s
	}
}

// FuzzDecode: whatever an item holds, there is a record of it, whose values are in range, and whatever is not of
// its type is named.
func FuzzDecode(f *testing.F) {
	for i := range attributes() {
		for kind := range uint8(12) {
			f.Add(uint8(i), kind, "2026-11-23T14:50:17", kind+1, "-1")
		}
	}
	for _, text := range []string{"", "\x00", "\xff", "1e400", "99999999999999999999", "NaN", `{"a":`, "null", "[[[["} {
		f.Add(uint8(3), uint8(0), text, uint8(11), text)
	}
	f.Fuzz(func(t *testing.T, which, kind uint8, text string, otherKind uint8, other string) {
		name := attributes()[int(which)%len(attributes())]
		item := map[string]types.AttributeValue{}
		for _, attribute := range attributes() {
			item[attribute] = valueOf(otherKind, other)
		}
		item[name] = valueOf(kind, text)
		r := decode(item)
		if r.Size < -1 {
			t.Errorf("size %d", r.Size)
		}
		malformed := r.Malformed()
		for _, attribute := range []string{"name", "type", "meta"} {
			_, isText := item[attribute].(*types.AttributeValueMemberS)
			if !isText && !slices.Contains(malformed, attribute) {
				t.Errorf("%s is %#v, and malformed is %q", attribute, item[attribute], malformed)
			}
		}
		// All times are there, so that all are set: whoever wrote one meant the state.
		if r.State() != records.Deleted || !r.StoredAt.IsSet() || !r.UploadedAt.IsSet() || !r.CreatedAt.IsSet() {
			t.Errorf("the state is %s", r.State())
		}
		if meta, err := r.MetaObject(); err == nil && r.Meta != "" && meta == nil {
			t.Errorf("meta %q is taken for an object", r.Meta)
		}
	})
}
