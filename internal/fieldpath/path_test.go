package fieldpath_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/fieldpath"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func key(text string) protoreflect.MapKey { return protoreflect.ValueOfString(text).MapKey() }

func TestAPathInWords(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		path  fieldpath.Path
		limit int
		want  string
	}{
		"nothing":        {nil, 100, ""},
		"a field":        {fieldpath.Path{{Field: "text"}}, 100, "text"},
		"an element":     {fieldpath.Path{{Field: "items"}, {Index: 2}, {Field: "price"}}, 100, "items[2].price"},
		"a key":          {fieldpath.Path{{Field: "labels"}, {Key: key("a\n")}}, 100, `labels["a\n"]`},
		"a number":       {fieldpath.Path{{Field: "boxes"}, {Key: protoreflect.ValueOfInt64(-7).MapKey()}, {Field: "x"}}, 100, "boxes[-7].x"},
		"a hidden key":   {fieldpath.Path{{Field: "labels"}, {Key: key("secret"), Hidden: true}, {Field: "x"}}, 100, "labels[…].x"},
		"a long key":     {fieldpath.Path{{Field: "labels"}, {Key: key(strings.Repeat("k", 50))}}, 40, `labels["kkkkkkkkkk…"]`},
		"a long path":    {slices.Repeat(fieldpath.Path{{Field: "next"}}, 1000), 12, "next.next.ne…"},
		"an empty limit": {fieldpath.Path{{Field: "next"}, {Field: "next"}}, 0, "…"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := test.path.Text(test.limit); got != test.want {
				t.Errorf("Text = %s, want %s", got, test.want)
			}
		})
	}
}

func TestAWalkKnowsWhereItIsAndWhatIsHidden(t *testing.T) {
	t.Parallel()
	message := &testv1.PlaceRequest{
		Items:   []*testv1.Item{{Name: "tea"}},
		Secrets: &testv1.Secrets{Answers: map[string]int32{"pin": 1}, Vault: &testv1.Item{Name: "gold"}},
	}
	var shown, hidden []string
	fieldpath.Walk(message.ProtoReflect(), func(at protopath.Values) error {
		path, redacted := fieldpath.Of(at.Path, false)
		if text := path.Text(100); redacted {
			hidden = append(hidden, text)
		} else if text != "" {
			shown = append(shown, text)
		}
		return nil
	}, nil)
	slices.Sort(shown)
	slices.Sort(hidden)
	if want := []string{"items", "items[0]", "items[0].name", "secrets"}; !slices.Equal(shown, want) {
		t.Errorf("shown are %q, want %q", shown, want)
	}
	if want := []string{"secrets.answers", "secrets.answers[…]", "secrets.vault", "secrets.vault.name"}; !slices.Equal(hidden, want) {
		t.Errorf("hidden are %q, want %q", hidden, want)
	}
}
