package admin

import (
	"bytes"
	_ "embed" // the files of the page
	"encoding/json"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/onecall-dev/onecall/telemetry"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS []byte

//go:embed page.js
var pageJS []byte

// policy is the content security policy of every answer.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

const (
	// eventEvery is how often a viewer gets new values.
	eventEvery = 2 * time.Second
	// maxViewers is how many viewers get new values at the same time.
	maxViewers = 32
)

// handler returns the handler of all requests. loopback says that the server listens on
// loopback.
func (s *Server) handler(loopback bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("GET /status.json", s.json)
	mux.HandleFunc("GET /events", s.events(make(chan struct{}, maxViewers)))
	mux.HandleFunc("GET /metrics", s.text)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, "text/plain; charset=utf-8", []byte("ok\n")) })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("GET /page.css", func(w http.ResponseWriter, _ *http.Request) { answer(w, "text/css; charset=utf-8", pageCSS) })
	mux.HandleFunc("GET /page.js", func(w http.ResponseWriter, _ *http.Request) { answer(w, "text/javascript; charset=utf-8", pageJS) })
	addProfiles(mux)
	return guard(http.NewCrossOriginProtection().Handler(mux), loopback)
}

// guard sets the headers of every answer, and refuses requests that change something. On
// loopback it refuses names of hosts other than localhost, behind which another site may
// have put this address.
func guard(inner http.Handler, loopback bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cross-Origin-Resource-Policy", "same-origin")
		header.Set("Cache-Control", "no-store")
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			header.Set("Allow", "GET, HEAD")
			http.Error(w, "this is read-only", http.StatusMethodNotAllowed)
		case loopback && !isLocalHost(r.Host):
			http.Error(w, "the host of the request is not this machine: use its address, or localhost", http.StatusForbidden)
		default:
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // tests have none
			inner.ServeHTTP(w, r)
		}
	})
}

// isLocalHost reports whether a host of a request is an address or localhost.
func isLocalHost(hostPort string) bool {
	host := hostPort
	if split, _, err := net.SplitHostPort(hostPort); err == nil {
		host = split
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil || host == "localhost"
}

// answer writes a whole answer.
func answer(w http.ResponseWriter, mediaType string, body []byte) {
	w.Header().Set("Content-Type", mediaType)
	_, _ = w.Write(body) // the client has gone
}

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"rate":     func(perSecond float64) string { return fmt.Sprintf("%.1f", perSecond) },
	"seconds":  func(seconds float64) string { return shown(time.Duration(seconds * float64(time.Second))) },
	"duration": shown,
	"time":     func(at time.Time) string { return at.UTC().Format("15:04:05.000") },
	"iso":      func(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) },
	"short":    func(text string) string { return text[:min(len(text), 12)] },
	"since": func(at, now time.Time) string {
		if at.IsZero() {
			return "unknown"
		}
		return shown(now.Sub(at))
	},
	"number": func(value float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", value), ".0") },
}).Parse(pageHTML))

// shown returns a duration with two or three digits.
func shown(d time.Duration) string {
	switch {
	case d == 0:
		return "–"
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(100 * time.Microsecond).String()
	case d < time.Minute:
		return d.Round(10 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}

// page serves the status page.
func (s *Server) page(w http.ResponseWriter, _ *http.Request) {
	var html bytes.Buffer
	if err := page.ExecuteTemplate(&html, "page", s.status()); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, "text/html; charset=utf-8", html.Bytes())
}

// json serves the same as JSON.
func (s *Server) json(w http.ResponseWriter, _ *http.Request) {
	body, err := json.MarshalIndent(s.status(), "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, "application/json", append(body, '\n'))
}

// text serves the metrics in Prometheus' format.
func (s *Server) text(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", telemetry.TextType)
	_ = telemetry.WriteText(w, s.window.metrics.Collect()) // the client has gone
}

// ready reports whether all services accept calls. That they are registered is no part of
// it: while the registry is away, other programs still call them.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	services, _ := s.shown()
	for _, service := range services {
		if service.Inspect().Draining {
			http.Error(w, "draining", http.StatusServiceUnavailable)
			return
		}
	}
	answer(w, "text/plain; charset=utf-8", []byte("ok\n"))
}

// events serves new values until the viewer goes, as events with the HTML of the page.
func (s *Server) events(viewers chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case viewers <- struct{}{}:
			defer func() { <-viewers }()
		default:
			http.Error(w, "too many viewers: reload the page for new values", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		control := http.NewResponseController(w)
		ticker := time.NewTicker(eventEvery)
		defer ticker.Stop()
		for {
			var html bytes.Buffer
			if err := page.ExecuteTemplate(&html, "main", s.status()); err != nil {
				return
			}
			_ = control.SetWriteDeadline(time.Now().Add(writeTimeout)) // tests have none
			event := "data: " + strings.ReplaceAll(html.String(), "\n", "\ndata: ") + "\n\n"
			if _, err := w.Write([]byte(event)); err != nil || control.Flush() != nil {
				return
			}
			select {
			case <-ticker.C:
			case <-r.Context().Done():
				return
			}
		}
	}
}
