package lograte_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onecall-dev/onecall/internal/lograte"
)

func TestAKeyHasSoManyLinesAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiter := new(lograte.Limiter)
		for minute := range 3 {
			allowed := map[string]int{}
			for range 50 {
				for key, most := range map[string]int{"a": 1, "b": 5} {
					if limiter.Allow(key, most) {
						allowed[key]++
					}
				}
			}
			if allowed["a"] != 1 || allowed["b"] != 5 {
				t.Errorf("in minute %d %v were allowed, want 1 of a and 5 of b", minute, allowed)
			}
			time.Sleep(time.Minute)
		}
	})
}

func TestEndlessKeysTakeNoMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiter := new(lograte.Limiter)
		allowed := 0
		for i := range 10_000 {
			if limiter.Allow(strconv.Itoa(i), 1) {
				allowed++
			}
		}
		if allowed != lograte.MaxKeys {
			t.Errorf("%d keys were allowed within a minute, want %d", allowed, lograte.MaxKeys)
		}
	})
}
