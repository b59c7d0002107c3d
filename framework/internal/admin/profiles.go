package admin

import (
	"context"
	"fmt"
	"net/http"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxProfile is how long a profile of the CPU or a trace may take.
const maxProfile = 5 * time.Minute

// addProfiles adds what go tool pprof and go tool trace read. It is not net/http/pprof,
// because that also adds them to http.DefaultServeMux, which the program may serve to
// others.
func addProfiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/{$}", profiles)
	mux.HandleFunc("GET /debug/pprof/{name}", profile)
	mux.HandleFunc("GET /debug/pprof/profile", during(func(w http.ResponseWriter) (func(), error) {
		return pprof.StopCPUProfile, pprof.StartCPUProfile(w)
	}, 30*time.Second))
	mux.HandleFunc("GET /debug/pprof/trace", during(func(w http.ResponseWriter) (func(), error) {
		return trace.Stop, trace.Start(w)
	}, time.Second))
}

// profiles lists the profiles.
func profiles(w http.ResponseWriter, _ *http.Request) {
	names := []string{"profile?seconds=30", "trace?seconds=1"}
	for _, of := range pprof.Profiles() {
		names = append(names, of.Name())
	}
	slices.Sort(names)
	answer(w, "text/plain; charset=utf-8", []byte(strings.Join(names, "\n")+"\n"))
}

// profile serves a profile of the runtime.
func profile(w http.ResponseWriter, r *http.Request) {
	found := pprof.Lookup(r.PathValue("name"))
	if found == nil {
		http.Error(w, "there is no such profile", http.StatusNotFound)
		return
	}
	as, mediaType := 0, "application/octet-stream"
	if debug := r.FormValue("debug"); debug != "" {
		var err error
		if as, err = strconv.Atoi(debug); err != nil {
			http.Error(w, "debug is no number", http.StatusBadRequest)
			return
		}
	}
	if as > 0 {
		mediaType = "text/plain; charset=utf-8"
	}
	w.Header().Set("Content-Type", mediaType)
	_ = found.WriteTo(w, as) // the client has gone
}

// during serves what is recorded for some seconds.
func during(start func(http.ResponseWriter) (stop func(), err error), usual time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		length := usual
		if given := r.FormValue("seconds"); given != "" {
			seconds, err := strconv.ParseFloat(given, 64)
			if length = time.Duration(seconds * float64(time.Second)); err != nil || length <= 0 || length > maxProfile {
				http.Error(w, fmt.Sprintf("seconds is not between 0 and %v", maxProfile.Seconds()), http.StatusBadRequest)
				return
			}
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(length + writeTimeout)) // tests have none
		w.Header().Set("Content-Type", "application/octet-stream")
		stop, err := start(w)
		if err != nil {
			http.Error(w, err.Error()+": another one may be in progress", http.StatusConflict)
			return
		}
		defer stop()
		ctx, cancel := context.WithTimeout(r.Context(), length)
		defer cancel()
		<-ctx.Done()
	}
}
