package etcd

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3/naming/endpoints"

	"github.com/onecall-dev/onecall/discovery"
)

// anyInstance draws a valid instance; each field is now and then left out.
func anyInstance(draw *rand.Rand) discovery.Instance {
	text := func() string {
		const letters = `abzAZ09._-/ "\<&>'{}[]:,` + "ü€\u2028😀"
		runes := []rune(letters)
		out := make([]rune, draw.IntN(12))
		for i := range out {
			out[i] = runes[draw.IntN(len(runes))]
		}
		return string(out)
	}
	instance := discovery.Instance{
		API:     "auth",
		Address: fmt.Sprintf("[2001:db8::%x]:%d", draw.IntN(1<<16), 1+draw.IntN(65535)),
		Service: text(),
		State:   []discovery.State{discovery.Serving, discovery.Draining}[draw.IntN(2)],
		Version: text(),
		Zone:    text(),
		Schema:  text(),
	}
	if draw.IntN(4) > 0 {
		instance.Incarnation = discovery.NewIncarnation()
	}
	if draw.IntN(4) > 0 {
		instance.Started = time.UnixMilli(draw.Int64N(1 << 42)).In(time.FixedZone("", draw.IntN(7200)-3600))
	}
	if draw.IntN(4) > 0 {
		instance.Socket = discovery.Socket{Host: "h" + text(), Path: "/" + text(), File: "f" + text()}
	}
	return instance
}

func TestAnInstanceIsReadBackAsItWasWritten(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	draw := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		written := anyInstance(draw)
		data, err := encodeInstance(written)
		if err != nil {
			t.Fatalf("seed %d: %+v: %v", seed, written, err)
		}
		read, err := decodeInstance("auth", data)
		if err != nil || !read.Equal(written) {
			t.Fatalf("seed %d: %s is read as\n%+v (%v), written as\n%+v", seed, data, read, err, written)
		}
	}
}

func TestWhatTheFormatCannotHoldIsWrittenAsItsNearest(t *testing.T) {
	t.Parallel()
	written := discovery.Instance{API: "auth", Address: "localhost:80", Started: time.Unix(1767323045, 6_999_999)}
	data, err := encodeInstance(written)
	if err != nil {
		t.Fatal(err)
	}
	read, err := decodeInstance("auth", data)
	if err != nil {
		t.Fatal(err)
	}
	want := written
	want.State = discovery.Serving // what no state means
	want.Started = time.Unix(1767323045, 6_000_000)
	if !read.Equal(want) {
		t.Errorf("read %+v, want %+v", read, want)
	}
}

func TestTheValueIsEtcdsOwnNamingFormat(t *testing.T) {
	t.Parallel()
	instance := discovery.Instance{API: "auth", Address: "10.0.0.7:8443", Incarnation: discovery.Incarnation{1}, Zone: "a"}
	data, err := encodeInstance(instance)
	if err != nil {
		t.Fatal(err)
	}
	var theirs endpoints.Endpoint
	var fields map[string]any
	if err := json.Unmarshal(data, &theirs); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	meta, ok := theirs.Metadata.(map[string]any)
	if !ok || fields["Op"] != float64(endpoints.Add) || theirs.Addr != instance.Address || meta["incarnation"] != instance.Incarnation.String() || meta["zone"] != "a" || meta["state"] != "serving" {
		t.Errorf("etcd's own reader has %+v of %s", theirs, data)
	}
	back, err := json.Marshal(theirs) // as endpoints.Manager writes it, next to Op
	if err != nil {
		t.Fatal(err)
	}
	if read, err := decodeInstance("auth", back); err != nil || read.Address != instance.Address || read.Incarnation != instance.Incarnation {
		t.Errorf("%s is read as %+v, %v", back, read, err)
	}
}

// TestTheAddressIsWhatOthersReadOfAnInstanceWithASocket reads a value as etcd's own client
// does, which knows no socket.
func TestTheAddressIsWhatOthersReadOfAnInstanceWithASocket(t *testing.T) {
	t.Parallel()
	written := discovery.Instance{
		API: "auth", Address: "10.0.0.7:8443", Incarnation: discovery.Incarnation{1}, State: discovery.Serving,
		Socket: discovery.Socket{Host: "h", Path: "/tmp/onecall-0/a", File: "26:1234"},
	}
	data, err := encodeInstance(written)
	if err != nil {
		t.Fatal(err)
	}
	var theirs endpoints.Endpoint
	if err := json.Unmarshal(data, &theirs); err != nil {
		t.Fatal(err)
	}
	meta, _ := theirs.Metadata.(map[string]any)
	if theirs.Addr != written.Address || meta["incarnation"] != written.Incarnation.String() || meta["state"] != "serving" {
		t.Errorf("of %s others read %+v", data, theirs)
	}
	const want = `"socket":{"host":"h","path":"/tmp/onecall-0/a","file":"26:1234"}`
	if !strings.Contains(string(data), want) {
		t.Errorf("%s does not have %s", data, want)
	}
}

func TestASocketThatCannotBeReadIsNone(t *testing.T) {
	t.Parallel()
	for title, socket := range map[string]string{
		"null": `null`, "text": `"/tmp/a"`, "a number": `7`, "a list": `["/tmp/a"]`, "nothing": `{}`,
		"no path":              `{"host":"h","file":"1:2"}`,
		"a relative path":      `{"host":"h","path":"a","file":"1:2"}`,
		"a file that is none":  `{"host":"h","path":"/a","file":7}`,
		"a line break":         `{"host":"h","path":"/a\n","file":"1:2"}`,
		"a path beyond bounds": `{"host":"h","path":"/` + strings.Repeat("a", 1024) + `","file":"1:2"}`,
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			const incarnation = "AQIDBAUGBwgJCgsMDQ4PEA"
			read, err := decodeInstance("auth", []byte(`{"Addr":"10.0.0.7:80","Metadata":{"incarnation":"`+incarnation+`","zone":"a","socket":`+socket+`}}`))
			if err != nil || read.Address != "10.0.0.7:80" || read.Incarnation.String() != incarnation || read.Zone != "a" || read.Socket != (discovery.Socket{}) {
				t.Errorf("read %+v, %v; want the instance without a socket", read, err)
			}
		})
	}
}

func TestAnotherProgramsValueIsReadAsFarAsItGoes(t *testing.T) {
	t.Parallel()
	for title, data := range map[string]string{
		"no metadata":                 `{"Op":0,"Addr":"10.0.0.7:80"}`,
		"metadata that is null":       `{"Op":0,"Addr":"10.0.0.7:80","Metadata":null}`,
		"metadata that is text":       `{"Op":0,"Addr":"10.0.0.7:80","Metadata":"blue"}`,
		"metadata that is a number":   `{"Op":0,"Addr":"10.0.0.7:80","Metadata":7}`,
		"metadata that is a list":     `{"Op":0,"Addr":"10.0.0.7:80","Metadata":[1,2]}`,
		"a state of its own":          `{"Op":0,"Addr":"10.0.0.7:80","Metadata":{"state":"up"}}`,
		"metadata of other fields":    `{"Op":0,"Addr":"10.0.0.7:80","Metadata":{"colour":7}}`,
		"our fields with other types": `{"Op":0,"Addr":"10.0.0.7:80","Metadata":{"version":7,"state":{}}}`,
		"fields that we do not know":  `{"Addr":"10.0.0.7:80","Extra":true}`,
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			read, err := decodeInstance("auth", []byte(data))
			want := discovery.Instance{API: "auth", Address: "10.0.0.7:80", State: discovery.Serving}
			if err != nil || !read.Equal(want) {
				t.Errorf("read %+v, %v; want %+v", read, err, want)
			}
		})
	}
}

func TestAValueThatNoInstanceCanBeReadFromIsRefused(t *testing.T) {
	t.Parallel()
	const ours = `"incarnation":"AQIDBAUGBwgJCgsMDQ4PEA"`
	for title, test := range map[string]struct{ data, problem string }{
		"nothing":                         {``, "naming format"},
		"no JSON":                         {`10.0.0.7:80`, "naming format"},
		"two values":                      {`{"Addr":"10.0.0.7:80"}{}`, "naming format"},
		"a list":                          {`[]`, "naming format"},
		"null":                            {`null`, "Address is empty"},
		"a deletion":                      {`{"Op":1,"Addr":"10.0.0.7:80"}`, "Op is 1"},
		"an Op that is text":              {`{"Op":"0","Addr":"10.0.0.7:80"}`, "naming format"},
		"no address":                      {`{"Op":0}`, "Address is empty"},
		"an address that nobody can dial": {`{"Op":0,"Addr":"0.0.0.0:80"}`, "every address"},
		"an incarnation that is none":     {`{"Addr":"10.0.0.7:80","Metadata":{"incarnation":"short"}}`, `incarnation "short"`},
		"an incarnation of another type":  {`{"Addr":"10.0.0.7:80","Metadata":{"incarnation":7}}`, "Metadata"},
		"an unknown state of ours":        {`{"Addr":"10.0.0.7:80","Metadata":{` + ours + `,"state":"up"}}`, "State"},
		"a field of ours of another type": {`{"Addr":"10.0.0.7:80","Metadata":{` + ours + `,"zone":7}}`, "Metadata"},
		"a time of ours that is none":     {`{"Addr":"10.0.0.7:80","Metadata":{` + ours + `,"started":"today"}}`, "Metadata"},
		"a value beyond all bounds":       {`{"Addr":"10.0.0.7:80","Extra":"` + strings.Repeat("x", maxValueBytes) + `"}`, "bytes are more than"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			read, err := decodeInstance("auth", []byte(test.data))
			if err == nil || !strings.Contains(err.Error(), test.problem) {
				t.Errorf("read %+v, %v; want an error of %q", read, err, test.problem)
			}
		})
	}
}

// FuzzDecodeInstance holds that no value makes the reader panic, and that what
// is read is valid and is itself again once written.
func FuzzDecodeInstance(f *testing.F) {
	for _, instance := range []discovery.Instance{
		{API: "auth", Address: "10.0.0.7:8443"},
		{
			API: "auth", Address: "[2001:db8::7]:1", Incarnation: discovery.Incarnation{1, 2, 3}, Service: "auth.v1.AuthService",
			State: discovery.Draining, Version: "v1.2.3", Zone: "a", Schema: "sha256:00", Started: time.UnixMilli(1767323045006),
			Socket: discovery.Socket{Host: "h", Path: "/tmp/a", File: "1:2"},
		},
	} {
		data, err := encodeInstance(instance)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, seed := range []string{
		`{"Addr":"localhost:80","Metadata":{"started":"2026-01-02T03:04:05.0069Z"}}`,
		`{"Addr":"localhost:80","Metadata":{"started":"9999-12-31T23:59:59-01:00"}}`,
		`{"Addr":"localhost:80","Metadata":{"started":"0000-01-01T00:00:00+01:00"}}`,
		``, `null`, `{}`, `[]`, `{"Op":1}`,
		`{"Op":0,"Addr":"10.0.0.7:80","Metadata":"blue"}`,
		`{"Op":0,"Addr":"10.0.0.7:80","Metadata":{"colour":7}}`,
		`{"addr":"localhost:80","METADATA":{"ZONE":"a","zone":"b"}}`,
		`{"Addr":"localhost:80","Metadata":{"incarnation":null,"state":""}}`,
		`{"Addr":"localhost:80","Metadata":{"incarnation":"short"}}`,
		`{"Addr":"localhost:80","Metadata":{"started":"2026-01-02T03:04:05.006+01:00"}}`,
		`{"Addr":"localhost:80","Metadata":{"started":"0001-01-01T00:00:00Z"}}`,
		`{"Addr":"localhost:80","Metadata":{"socket":{"host":"h","path":"a","file":"1:2"}}}`,
		`{"Addr":"\ud800:80","Metadata":{"version":"\u0000<&>"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		read, err := decodeInstance("auth", data)
		if err != nil {
			return
		}
		if read.API != "auth" {
			t.Errorf("the API is %q", read.API)
		}
		if err := read.Validate(); err != nil {
			t.Fatalf("what was read is not valid: %v", err)
		}
		again, err := encodeInstance(read)
		if err != nil {
			t.Fatalf("%+v can't be written: %v", read, err)
		}
		if len(again) > maxValueBytes {
			return // escaped it is longer than what is read
		}
		if back, err := decodeInstance("auth", again); err != nil || !back.Equal(read) {
			t.Fatalf("%s was read as\n%+v, written as %s and read as\n%+v (%v)", data, read, again, back, err)
		}
	})
}
