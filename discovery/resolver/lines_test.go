package resolver

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestResolversOfOneAPILogEachLineOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder // the timers below run one after the other
		shared := new(Lines)
		config := Config{Logger: slog.New(slog.NewTextHandler(&out, nil)), Lines: shared}
		one, other := newNotes(config, "auth"), newNotes(config, "auth")
		log := func(n *notes, message, address string) {
			n.add(note{slog.LevelWarn, message, address, func() []any { return nil }})
			synctest.Wait()
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		log(one, "an instance is avoided", "10.0.0.1:1")
		log(other, "an instance is avoided", "10.0.0.1:1") // the same line of the other connection
		log(other, "an instance is avoided", "10.0.0.2:1")
		log(one, "an instance is back", "10.0.0.1:1")
		if lines := strings.Count(out.String(), "\n"); lines != 3 {
			t.Errorf("%d lines, want 3:\n%s", lines, out.String())
		}
		time.Sleep(2 * time.Minute)
		log(one, "an instance is avoided", "10.0.0.1:1")
		if lines := strings.Count(out.String(), "\n"); lines != 4 {
			t.Errorf("%d lines after two minutes, want 4:\n%s", lines, out.String())
		}
		one.close()
		other.close()
	})
}
