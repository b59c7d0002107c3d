package main

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary run as the servers.
func TestMain(m *testing.M) {
	var o options
	for i, argument := range os.Args[:max(len(os.Args)-1, 0)] {
		switch argument {
		case "-serve":
			o.serve = os.Args[i+1]
		case "-etcd":
			o.etcd = os.Args[i+1]
		}
	}
	if o.serve == "" {
		os.Exit(m.Run())
	}
	if err := serve(context.Background(), o.serve, o.etcd); err != nil {
		panic(err)
	}
}

func TestEveryPeerIsMeasured(t *testing.T) {
	dir := t.TempDir()
	page, chart := filepath.Join(dir, "page.md"), filepath.Join(dir, "chart.svg")
	if err := os.WriteFile(page, []byte("before\n"+tableBegin+"old\n"+tableEnd+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := options{callers: "1,4", bytes: "50,1024", turns: 1, length: 20 * time.Millisecond, page: page, chart: chart}
	if err := o.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if written := string(text); !strings.HasPrefix(written, "before\n"+tableBegin) || !strings.HasSuffix(written, tableEnd+"after\n") || strings.Contains(written, "old") {
		t.Errorf("the page is:\n%s", text)
	}
	picture, err := os.ReadFile(chart)
	if err != nil {
		t.Fatal(err)
	}
	for _, peer := range peers {
		if !strings.Contains(string(text), "| "+peer.title+" |") {
			t.Errorf("the table lacks %s", peer.name)
		}
	}
	if bars := strings.Count(string(picture), "<rect"); bars != 2*len(peers) {
		t.Errorf("the chart has %d bars", bars)
	}
	for read := xml.NewDecoder(strings.NewReader(string(picture))); ; {
		if _, err := read.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the chart is no XML: %v", err)
		}
	}
}

func TestBadFlagsAreErrors(t *testing.T) {
	good := options{callers: "1", bytes: "1", turns: 1, length: time.Millisecond}
	for name, spoil := range map[string]func(*options){
		"callers": func(o *options) { o.callers = "x" },
		"bytes":   func(o *options) { o.bytes = "0" },
		"peers":   func(o *options) { o.only = "none" },
		"turns":   func(o *options) { o.turns = 0 },
		"time":    func(o *options) { o.length = 0 },
		"serve":   func(o *options) { o.serve = "none" },
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			spoil(&o)
			if err := o.run(t.Context()); err == nil {
				t.Errorf("run with %+v is no error", o)
			}
		})
	}
}

func TestAPageWithoutCommentsIsNotChanged(t *testing.T) {
	for _, text := range []string{"", tableBegin, tableEnd + tableBegin} {
		if got, err := replaceTable(text, "table"); err == nil {
			t.Errorf("the table of %q is replaced: %q", text, got)
		}
	}
}
