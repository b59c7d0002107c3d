package validate

import "testing"

func TestThePathsOfALogHaveNoKeysOfMaps(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"":                              "",
		"text":                          "text",
		"items[2].price":                "items[].price",
		`labels["secret"]`:              "labels[]",
		`labels["a]b\\"[c"].names[2].x`: "labels[].names[].x",
		`ids[-5][true].x`:               "ids[][].x",
		`labels["secret that is cu…`:    "labels[]",
		`labels[12`:                     "labels[]",
	} {
		t.Run(path, func(t *testing.T) {
			if got := withoutSubscripts(path); got != want {
				t.Errorf("%s = %s, want %s", path, got, want)
			}
		})
	}
}
