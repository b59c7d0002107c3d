package framework_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
	"github.com/onecall-dev/onecall/telemetry"
)

// pageOf returns the address of the status page in a log, without the last slash.
func pageOf(t *testing.T, log *testlog.Log) string {
	t.Helper()
	found := regexp.MustCompile(`url=(http://[^/]+)/`).FindStringSubmatch(log.String())
	if found == nil {
		t.Fatalf("the log has no status page:\n%s", log)
	}
	return found[1]
}

// reply is the answer of a status page.
type reply struct {
	StatusCode int
	Header     http.Header
}

// get requests an address, and returns the answer and its body.
func get(t *testing.T, address string, change ...func(*http.Request)) (reply, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range change {
		of(request)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{response.StatusCode, response.Header}, string(body)
}

// administered serves e with a status page, and returns its address and a bus that shares
// it.
func administered(t *testing.T, e *echo, options ...framework.Option) (page string, bus *framework.Bus, service *framework.Service) {
	t.Helper()
	registry, log, admin := memory.New(), new(testlog.Log), framework.Admin("127.0.0.1:0")
	serveOptions, busOptions := []framework.ServeOption{framework.Logger(log.Logger()), admin}, []framework.BusOption{admin}
	for _, option := range options {
		serveOptions, busOptions = append(serveOptions, option), append(busOptions, option)
	}
	service = start(t, registry, e, serveOptions...)
	bus = newBus(t, registry, busOptions...)
	ready(t, bus, "test.echo")
	return pageOf(t, log), bus, service
}

// shownStatus is a part of the page's JSON.
type shownStatus struct {
	Services []struct {
		Address    string
		Registered bool
		Draining   bool
		Instances  []struct{ API, Service, State, Schema string }
	}
	RPCs []struct {
		Side, Method string
		PerSecond    float64
		P50Seconds   float64
		P99Seconds   float64
		Calls        uint64
		Errors       map[string]uint64
	}
	APIs []struct {
		API, Unavailable string
		Instances        []struct{ Address, State, Zone string }
	}
	Recent []shownCall
}

type shownCall struct {
	Side, RPC, Code, Outcome, Call, Error, Instance string
}

func shown(t *testing.T, page string) (now shownStatus, text string) {
	t.Helper()
	_, text = get(t, page+"/status.json")
	if err := json.Unmarshal([]byte(text), &now); err != nil { //nolint:musttag // the names are found in any case
		t.Fatal(err)
	}
	return now, text
}

func TestTheStatusPageShowsTheProgram(t *testing.T) {
	t.Parallel()
	page, bus, service := administered(t, &echo{echo: func(_ context.Context, text string) (string, error) {
		if text != "" {
			return "", status.Error(codes.NotFound, "<script>alert(1)</script> is missing")
		}
		return "", nil
	}}, framework.Zone("b"))
	client := testv1.NewEchoServiceClient(bus)
	for _, text := range []string{"", "the content of a message"} {
		_, _ = client.Echo(t.Context(), &testv1.EchoRequest{Text: text})
	}
	var got shownStatus
	var text string
	eventually.True(t, "both sides of the calls", func() bool {
		got, text = shown(t, page)
		// On a busy machine the call that succeeds may be slow, and is shown too.
		got.Recent = slices.DeleteFunc(got.Recent, func(call shownCall) bool { return call.Code == "OK" })
		return len(got.RPCs) == 2 && got.RPCs[0].Calls == 2 && got.RPCs[1].Calls == 2 && len(got.Recent) == 2
	})
	if strings.Contains(text, "content of a message") {
		t.Errorf("a message is shown:\n%s", text)
	}
	if len(got.Services) != 1 || got.Services[0].Address != service.Address() || !got.Services[0].Registered || got.Services[0].Draining || len(got.Services[0].Instances) != 2 ||
		got.Services[0].Instances[0].Service != "onecall.test.v1.EchoService" || got.Services[0].Instances[0].Schema == "" {
		t.Errorf("the services are %+v", got.Services)
	}
	for i, side := range []string{"serves", "calls"} {
		if rpc := got.RPCs[i]; rpc.Side != side || rpc.Method != "onecall.test.v1.EchoService/Echo" || rpc.PerSecond <= 0 || rpc.P50Seconds <= 0 || rpc.P99Seconds < rpc.P50Seconds ||
			rpc.Errors["executed"] != 1 {
			t.Errorf("an RPC is %+v", rpc)
		}
	}
	if len(got.APIs) != 1 || got.APIs[0].API != "test.echo" || got.APIs[0].Unavailable != "" || got.APIs[0].Instances[0].Address != service.Address() ||
		got.APIs[0].Instances[0].State != "serving" || got.APIs[0].Instances[0].Zone != "b" {
		t.Errorf("the APIs are %+v", got.APIs)
	}
	for _, call := range got.Recent {
		if call.RPC != "test.echo.echo" || call.Code != "NOT_FOUND" || call.Outcome != "executed" || len(call.Call) != 16 || !strings.Contains(call.Error, "is missing") {
			t.Errorf("a failed call is %+v", call)
		}
	}
	response, html := get(t, page+"/")
	if !strings.Contains(html, "onecall.test.v1.EchoService/Echo") || strings.Contains(html, "<script>alert") || !strings.Contains(html, "&lt;script&gt;alert(1)") {
		t.Errorf("the page is\n%s", html)
	}
	if policy := response.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; style-src 'self'; script-src 'self'") || strings.Contains(policy, "unsafe") {
		t.Errorf("the policy is %s", policy)
	}
	for _, inline := range []string{"<style", "style=", "onclick=", "<script>"} {
		if strings.Contains(html, inline) {
			t.Errorf("the page has %s, which its policy forbids", inline)
		}
	}
}

func TestTheStatusPageIsLive(t *testing.T) {
	t.Parallel()
	page, bus, _ := administered(t, &echo{})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, page+"/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if kind := response.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Errorf("events are %s", kind)
	}
	called := false
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		text, isData := strings.CutPrefix(lines.Text(), "data: ")
		if !isData && lines.Text() != "" {
			t.Fatalf("an event has the line %q", lines.Text())
		}
		if called && strings.Contains(text, "onecall.test.v1.EchoService/Echo") {
			return
		}
		if !called && strings.Contains(text, "recent-title") { // the end of the first event
			called = true
			if _, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Error("no event has the call")
}

func TestTheStatusPageServesMetricsHealthAndProfiles(t *testing.T) {
	t.Parallel()
	metrics := telemetry.New()
	page, bus, _ := administered(t, &echo{}, framework.Metrics(metrics))
	if _, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct{ kind, text string }{
		"/metrics":                          {"text/plain; version=0.0.4; charset=utf-8", `rpc_client_call_duration_seconds_count{`},
		"/healthz":                          {"text/plain; charset=utf-8", "ok\n"},
		"/readyz":                           {"text/plain; charset=utf-8", "ok\n"},
		"/debug/pprof/":                     {"text/plain; charset=utf-8", "goroutine"},
		"/debug/pprof/goroutine?debug=1":    {"text/plain; charset=utf-8", "goroutine profile: total"},
		"/debug/pprof/heap":                 {"application/octet-stream", "\x1f\x8b"},
		"/debug/pprof/profile?seconds=0.01": {"application/octet-stream", "\x1f\x8b"},
		"/debug/pprof/trace?seconds=0.01":   {"application/octet-stream", "go 1."},
		"/status.json":                      {"application/json", `"rpcs"`},
		"/page.css":                         {"text/css; charset=utf-8", "prefers-color-scheme"},
		"/page.js":                          {"text/javascript; charset=utf-8", "EventSource"},
	} {
		response, body := get(t, page+path)
		if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != want.kind || !strings.Contains(body, want.text) {
			t.Errorf("%s is %d %s, %q", path, response.StatusCode, response.Header.Get("Content-Type"), body[:min(len(body), 200)])
		}
	}
	for path, want := range map[string]int{"/nothing": 404, "/debug/pprof/nothing": 404, "/debug/pprof/heap?debug=x": 400, "/debug/pprof/profile?seconds=-1": 400, "/debug/pprof/trace?seconds=1e9": 400} {
		if response, _ := get(t, page+path); response.StatusCode != want {
			t.Errorf("%s is %d, want %d", path, response.StatusCode, want)
		}
	}
}

// TestAProgramThatDrainsIsNotReady has a handler that keeps the shutdown from ending.
func TestAProgramThatDrainsIsNotReady(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	page, bus, service := administered(t, &echo{echo: func(context.Context, string) (string, error) {
		close(entered)
		<-leave
		return "", nil
	}})
	calling := framework.CallAsync(t.Context(), testv1.NewEchoServiceClient(bus).Echo, &testv1.EchoRequest{}, framework.Timeout(time.Minute))
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- service.Stop(t.Context()) }()
	eventually.True(t, "a program that drains", func() bool {
		response, body := get(t, page+"/readyz")
		return response.StatusCode == http.StatusServiceUnavailable && body == "draining\n"
	})
	if got, _ := shown(t, page); !got.Services[0].Draining {
		t.Errorf("the services are %+v", got.Services)
	}
	if response, _ := get(t, page+"/healthz"); response.StatusCode != http.StatusOK {
		t.Errorf("the health is %d", response.StatusCode)
	}
	close(leave)
	if _, err := calling.Await(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if response, _ := get(t, page+"/readyz"); response.StatusCode != http.StatusOK { // the bus still runs
		t.Errorf("a program with a bus alone is %d", response.StatusCode)
	}
	if err := bus.Close(); err != nil {
		t.Error(err)
	}
	if conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(page, "http://")); err == nil {
		conn.Close()
		t.Error("the page is served without a service and a bus")
	}
}

func TestTheStatusPageIsReadOnlyAndLocal(t *testing.T) {
	t.Parallel()
	page, _, _ := administered(t, &echo{})
	address := strings.TrimPrefix(page, "http://")
	_, port, _ := net.SplitHostPort(address)
	for title, test := range map[string]struct {
		change func(*http.Request)
		want   int
	}{
		"a POST":                 {func(r *http.Request) { r.Method = http.MethodPost }, 405},
		"a DELETE":               {func(r *http.Request) { r.Method = http.MethodDelete }, 405},
		"a POST of another site": {func(r *http.Request) { r.Method = http.MethodPost; r.Header.Set("Sec-Fetch-Site", "cross-site") }, 405},
		"another host's name":    {func(r *http.Request) { r.Host = "evil.example:" + port }, 403},
		"localhost":              {func(r *http.Request) { r.Host = "localhost:" + port }, 200},
		"an IPv6 address":        {func(r *http.Request) { r.Host = "[::1]:" + port }, 200},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			response, _ := get(t, page+"/status.json", test.change)
			if response.StatusCode != test.want || response.Header.Get("X-Content-Type-Options") != "nosniff" || response.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("got %d %v, want %d", response.StatusCode, response.Header, test.want)
			}
		})
	}
}

func TestABadStatusPageIsAnError(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	shared := framework.Admin("127.0.0.1:0")
	newBus(t, memory.New(), shared, framework.Metrics(telemetry.New()))
	for want, options := range map[string][]framework.Option{
		`option Admin: "6060" is not "host:port"`: {framework.Admin("6060")},
		"option Admin: cannot listen":             {framework.Admin(taken.Addr().String())},
		"has other metrics":                       {shared, framework.Metrics(telemetry.New())},
	} {
		busOptions, serveOptions := []framework.BusOption{quiet}, []framework.ServeOption{quiet}
		for _, option := range options {
			busOptions, serveOptions = append(busOptions, option), append(serveOptions, option)
		}
		if _, err := framework.NewBus(memory.New(), busOptions...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewBus = %v, want %s", err, want)
		}
		if err := framework.Serve(t.Context(), memory.New(), (&echo{}).register, serveOptions...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Serve = %v, want %s", err, want)
		}
	}
}

func TestAStatusPageThatOthersReachIsWarnedOf(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]int{"0.0.0.0:0": 1, ":0": 0, "127.0.0.1:0": 0} {
		log := new(testlog.Log)
		bus := newBus(t, memory.New(), framework.Logger(log.Logger()), framework.Admin(address))
		if got := log.Count("the status page and the profiles can be read by everyone"); got != want {
			t.Errorf("%s: warned %d times, want %d:\n%s", address, got, want, log)
		}
		if err := bus.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestACallDoesNotWaitForAViewer has viewers that read nothing.
func TestACallDoesNotWaitForAViewer(t *testing.T) {
	t.Parallel()
	page, bus, _ := administered(t, &echo{echo: func(context.Context, string) (string, error) { return "", status.Error(codes.Internal, "it broke") }})
	client := testv1.NewEchoServiceClient(bus)
	for _, path := range []string{"/events", "/metrics", "/", "/status.json"} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(page, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		for range 50 { // pipelined requests, of which no answer is read
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path)
		}
	}
	for range 300 {
		if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); status.Code(err) != codes.Internal {
			t.Fatal(err)
		}
	}
	got, _ := shown(t, page)
	if len(got.Recent) != 100 {
		t.Errorf("%d calls are kept, want the last 100", len(got.Recent))
	}
}
