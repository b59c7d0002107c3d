package atmostonce_test

import (
	"encoding/hex"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// document is the page that describes the wire.
const document = "../../docs/at-most-once.md"

// tableOf reads the rows of each table in the document whose first header
// cells are these. The cells come without their code marks.
func tableOf(t *testing.T, headers ...string) [][]string {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	inside := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasPrefix(line, "|") {
			inside = false
			continue
		}
		cells := strings.Split(strings.TrimSuffix(strings.TrimPrefix(line, "| "), " |"), " | ")
		switch {
		case slices.Equal(cells, headers):
			inside = true
		case inside && !strings.HasPrefix(cells[0], "---"):
			for i := range cells {
				cells[i] = strings.TrimSuffix(strings.TrimPrefix(cells[i], "`"), "`")
			}
			rows = append(rows, cells)
		}
	}
	if len(rows) == 0 {
		t.Fatalf("%s has no table with the headers %q", document, headers)
	}
	return rows
}

func TestTheDocumentsIdentitiesAreReadAsItSays(t *testing.T) {
	t.Parallel()
	rows := tableOf(t, "value of `onecall-call`", "incarnation", "session", "created", "sequence")
	for _, row := range rows {
		t.Run(row[0], func(t *testing.T) {
			identity, err := atmostonce.ParseIdentity(row[0])
			if err != nil {
				t.Fatal(err)
			}
			got := []string{
				identity.Value(),
				hex.EncodeToString(identity.Incarnation[:]),
				hex.EncodeToString(identity.Session[:]),
				identity.Session.Created().UTC().Format("2006-01-02T15:04:05.000Z"),
				strconv.FormatUint(identity.Seq, 10),
			}
			if !slices.Equal(got, row) {
				t.Errorf("the document says %q, the code %q", row, got)
			}
		})
	}
	if len(rows) < 5 {
		t.Errorf("the document has %d examples, want 5", len(rows))
	}
}

func TestTheDocumentsMalformedIdentitiesAreRefused(t *testing.T) {
	t.Parallel()
	rows := tableOf(t, "value of `onecall-call`", "why")
	for _, row := range rows {
		t.Run(row[1], func(t *testing.T) {
			if identity, err := atmostonce.ParseIdentity(row[0]); err == nil {
				t.Errorf("%q parses as %v, want an error", row[0], identity)
			}
		})
	}
	if len(rows) < 17 {
		t.Errorf("the document has %d malformed examples, want 17", len(rows))
	}
}

func TestTheDocumentsSyntaxIsTheCodes(t *testing.T) {
	t.Parallel()
	// The ABNF, as a regular expression; only the ranges are beyond it.
	const id = `[A-Za-z0-9_-]{21}[AQgw]`
	syntax := regexp.MustCompile(`^` + id + `\.` + id + `\.[1-9][0-9]{0,19}$`)
	for _, row := range tableOf(t, "value of `onecall-call`", "incarnation", "session", "created", "sequence") {
		if !syntax.MatchString(row[0]) || len(row[0]) < 47 || len(row[0]) > 66 {
			t.Errorf("%q is not of the document's syntax", row[0])
		}
		if _, err := atmostonce.ParseIdentity(row[0]); err != nil {
			t.Error(err)
		}
	}
	beyond := []string{"is zero", "2^64"}
	for _, row := range tableOf(t, "value of `onecall-call`", "why") {
		isBeyond := slices.ContainsFunc(beyond, func(why string) bool { return strings.HasSuffix(row[1], why) })
		if syntax.MatchString(row[0]) != isBeyond {
			t.Errorf("%q (%s): the document's syntax takes it: %t", row[0], row[1], syntax.MatchString(row[0]))
		}
	}
}

func TestTheDocumentsLedgerKeysAreTheCodes(t *testing.T) {
	t.Parallel()
	for _, row := range tableOf(t, "value of `onecall-call`", "key") {
		identity, err := atmostonce.ParseIdentity(row[0])
		if err != nil {
			t.Fatal(err)
		}
		if got := atmostonce.LedgerKey(identity); got != row[1] {
			t.Errorf("the key of %s is %s, the document says %s", row[0], got, row[1])
		}
	}
}

func TestTheDocumentNamesEveryKeyAndReason(t *testing.T) {
	t.Parallel()
	var keys, reasons []string
	for _, row := range tableOf(t, "key", "where", "value") {
		keys = append(keys, row[0])
	}
	if want := []string{atmostonce.CallKey, atmostonce.OutcomeKey, atmostonce.IncarnationKey}; !slices.Equal(keys, want) {
		t.Errorf("the document has the keys %q, the code %q", keys, want)
	}
	for _, row := range tableOf(t, "reason", "code", "the server", "`onecall-outcome`", "may the caller retry?") {
		reasons = append(reasons, row[0])
	}
	// Those of the code, from its source, so that a new one is not forgotten.
	source, err := os.ReadFile("refusal.go")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, found := range regexp.MustCompile(`(?m)^\t\w+ +Reason += +"([A-Z_]+)"`).FindAllSubmatch(source, -1) {
		want = append(want, string(found[1]))
	}
	var all []string
	for _, reason := range atmostonce.Reasons() {
		all = append(all, string(reason))
	}
	slices.Sort(want)
	slices.Sort(all)
	slices.Sort(reasons)
	if !slices.Equal(all, want) {
		t.Errorf("Reasons has %q, its source %q", all, want)
	}
	if !slices.Equal(reasons, want) {
		t.Errorf("the document has the reasons %q, the code %q", reasons, want)
	}
}
