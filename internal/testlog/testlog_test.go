package testlog_test

import (
	"sync"
	"testing"

	"github.com/onecall-dev/onecall/internal/testlog"
)

func TestALogIsSharedByGoroutines(t *testing.T) {
	t.Parallel()
	log := new(testlog.Log)
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() { log.Logger().Info("a line") })
	}
	log.Until(t, "a line", 4)
	writers.Wait()
	if count := log.Count("a line"); count != 4 {
		t.Errorf("the log has %d lines, want 4:\n%s", count, log)
	}
}
