// Package admin serves the status page of a program, its metrics, its health, and the
// profiles of its runtime, over HTTP.
package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/onecall-dev/onecall/framework/internal/ended"
	"github.com/onecall-dev/onecall/telemetry"
)

// DefaultAddress is the address of the option without one.
const DefaultAddress = "127.0.0.1:6060"

const (
	// headerTimeout is how long a client may take to send the header of a request.
	headerTimeout = 5 * time.Second
	// writeTimeout is how long a client may take to read an answer, or an event.
	writeTimeout = 30 * time.Second
	// idleTimeout is how long a connection may be idle.
	idleTimeout = 2 * time.Minute
	// maxHeaderBytes is how large the header of a request may be.
	maxHeaderBytes = 16 << 10
	// registryPrefix is the begin of the names of a registry's metrics.
	registryPrefix = "onecall.registry."
)

// Server is the server of one option Admin, which a service and buses may share. It runs
// while one of them does. Its methods are safe for all goroutines.
type Server struct {
	address string
	recent  recent

	mu sync.Mutex // guards the fields below
	// metrics are those of the service and the buses.
	metrics  *telemetry.Metrics
	services []Service
	buses    []Bus
	members  int
	running  *running // nil without members

	started time.Time
	window  window // whose metrics are set with metrics
}

// running is the HTTP server and the goroutines of a [Server].
type running struct {
	http    *http.Server
	ended   context.CancelFunc
	working sync.WaitGroup
}

// New returns the server of an address, "host:port". It does no I/O. The host is loopback
// if it is empty.
func New(address string) (*Server, error) {
	if address == "" {
		address = DefaultAddress
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf(`option Admin: %q is not "host:port", such as %q: %w`, address, DefaultAddress, err)
	}
	if host == "" {
		address = net.JoinHostPort("127.0.0.1", port)
	}
	return &Server{address: address, started: time.Now()}, nil
}

// Metrics returns the metrics that the page shows: those of option Metrics, or its own if
// they are nil. It is an error if others were shown before.
func (s *Server) Metrics(given *telemetry.Metrics) (*telemetry.Metrics, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.metrics == nil:
		s.metrics = cmp.Or(given, telemetry.New())
		s.window.metrics = s.metrics
	case given != nil && given != s.metrics:
		return nil, errors.New("option Admin: it is shared with a service or a bus that has other metrics: give the same to option Metrics")
	}
	return s.metrics, nil
}

// Watcher returns the watcher that notes slow and failed calls.
func (s *Server) Watcher() ended.Watcher { return &s.recent }

// Member is a service or a bus that shares a [Server]. A nil Member is of none.
type Member struct {
	server *Server
	once   sync.Once
	// hide ends what was shown.
	hide func()
}

// Open returns a member, which must be closed. The first one makes the server listen.
func (s *Server) Open(log *slog.Logger) (*Member, error) {
	if s == nil {
		return nil, nil //nolint:nilnil // without a server there is no member, which is no error
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		if err := s.listen(log); err != nil {
			return nil, err
		}
	}
	s.members++
	return &Member{server: s, hide: func() {}}, nil
}

// ShowService shows a service until Close.
func (m *Member) ShowService(service Service) {
	if m == nil {
		return
	}
	s := m.server
	s.mu.Lock()
	defer s.mu.Unlock()
	s.services = append(s.services, service)
	m.hide = func() {
		s.services = slices.DeleteFunc(s.services, func(other Service) bool { return other == service })
	}
}

// ShowBus shows a bus until Close.
func (m *Member) ShowBus(bus Bus) {
	if m == nil {
		return
	}
	s := m.server
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buses = append(s.buses, bus)
	m.hide = func() { s.buses = slices.DeleteFunc(s.buses, func(other Bus) bool { return other == bus }) }
}

// Close ends the membership. The last one ends the server. It may be called again.
func (m *Member) Close() {
	if m == nil {
		return
	}
	m.once.Do(func() {
		s := m.server
		s.mu.Lock()
		m.hide()
		s.members--
		var last *running
		if s.members == 0 {
			last, s.running = s.running, nil
		}
		s.mu.Unlock()
		if last != nil {
			last.close()
		}
	})
}

// listen begins to serve. s.mu is held.
func (s *Server) listen(log *slog.Logger) error {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", s.address)
	if err != nil {
		return fmt.Errorf("option Admin: cannot listen: %w: end what listens there, or give another port", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	loopback := isLoopback(listener.Addr())
	s.running = &running{ended: cancel, http: &http.Server{
		Handler: s.handler(loopback), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		BaseContext: func(net.Listener) context.Context { return ctx }, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
	log.Info("the status page is served", "url", "http://"+listener.Addr().String()+"/")
	if !loopback {
		log.Warn("the status page and the profiles can be read by everyone who reaches their address: option Admin should have one on loopback", "address", listener.Addr().String())
	}
	server := s.running
	server.working.Go(func() { _ = server.http.Serve(listener) }) // it returns when the server is closed
	server.working.Go(func() { s.sample(ctx) })
	return nil
}

// sample keeps the counters of calls of the last minute.
func (s *Server) sample(ctx context.Context) {
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	s.window.tick()
	for {
		select {
		case <-ticker.C:
			s.window.tick()
		case <-ctx.Done():
			return
		}
	}
}

// close ends the server and its goroutines.
func (r *running) close() {
	r.ended()
	_ = r.http.Close()
	r.working.Wait()
}

// shown returns the services and buses.
func (s *Server) shown() ([]Service, []Bus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.services), slices.Clone(s.buses)
}

// registryValues returns the metrics of the registry.
func (s *Server) registryValues() []Value {
	values := []Value{}
	for _, metric := range s.window.metrics.Collect() {
		if strings.HasPrefix(metric.Name, registryPrefix) && len(metric.Points) > 0 {
			values = append(values, Value{Name: metric.Name, Help: metric.Help, Value: metric.Points[0].Value})
		}
	}
	return values
}

// isLoopback reports whether other machines cannot reach an address.
func isLoopback(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
