package server

import (
	"sync/atomic"
	"time"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/telemetry"
)

// drain is when the graceful shutdown of a service began, and how long it took.
type drain struct {
	began atomic.Pointer[time.Time] // nil before
	took  atomic.Int64              // in nanoseconds; 0 before the end
}

func (d *drain) begin(now time.Time)    { d.began.Store(&now) }
func (d *drain) end(took time.Duration) { d.took.Store(int64(max(took, 1))) }

// duration returns how long the shutdown took, or has taken so far. ok is false before.
func (d *drain) duration() (took time.Duration, ok bool) {
	began := d.began.Load()
	if began == nil {
		return 0, false
	}
	if took = time.Duration(d.took.Load()); took == 0 {
		took = time.Since(*began)
	}
	return took, true
}

// Collect implements [telemetry.Source].
func (s *Service) Collect(add func(telemetry.Metric)) {
	s.options.meters.Collect(add)
	stats := s.Stats()
	active := telemetry.Metric{Definition: telemetry.ServerCallsActive}
	for path, calls := range s.underWay.paths() {
		active.Points = append(active.Points, active.Point(float64(calls.running()), path[1:]))
	}
	add(active)
	refusals := telemetry.Metric{Definition: telemetry.ServerRefusals}
	for _, reason := range atmostonce.Reasons() {
		refusals.Points = append(refusals.Points, refusals.Point(float64(stats.Admission.Refused[reason]), string(reason)))
	}
	add(refusals)
	shed := telemetry.Metric{Definition: telemetry.ServerShed}
	for api, count := range stats.Shed {
		shed.Points = append(shed.Points, shed.Point(float64(count), api))
	}
	add(shed)
	add(telemetry.ServerConnections.Value(float64(stats.Connections)))
	add(telemetry.ServerConnectionsRefused.Value(float64(stats.RefusedConnections)))
	add(telemetry.ServerUnidentified.Value(float64(stats.Admission.WithoutIdentity)))
	add(telemetry.ServerSessions.Value(float64(stats.Admission.Collapsed), "idle"))
	add(telemetry.ServerSessions.Value(float64(stats.Admission.Sessions-stats.Admission.Collapsed), "active"))
	add(telemetry.ServerPrincipals.Value(float64(stats.Admission.Principals)))
	add(telemetry.ServerRepliesKept.Value(float64(stats.Admission.Kept)))
	settled := stats.Admission.Settled
	add(telemetry.ServerSettlements.Value(float64(settled.Refused), "refused"))
	add(telemetry.ServerSettlements.Value(float64(settled.Running), "running"))
	add(telemetry.ServerSettlements.Value(float64(settled.Executed), "executed"))
	add(telemetry.ServerSettlements.Value(float64(settled.Unknown), "unknown"))
	add(telemetry.ServerUnrecorded.Value(float64(stats.Admission.Unrecorded)))
	apis := float64(len(s.apis.contracts()))
	add(telemetry.ServiceAPIs.Value(apis))
	add(telemetry.ServiceRegistered.Value(apis * telemetry.Flag(stats.Registration.Registered)))
	add(telemetry.ServiceRegistryErrors.Value(telemetry.Flag(stats.Registration.Err != nil)))
	s.identity.Collect(add)
	s.authorization.collect(add)
	if s.options.callLog != nil {
		add(telemetry.LogDropped.Value(float64(s.options.callLog.Dropped())))
	}
	if took, ok := s.drain.duration(); ok {
		add(telemetry.ServiceDrainDuration.Value(took.Seconds()))
	}
}
