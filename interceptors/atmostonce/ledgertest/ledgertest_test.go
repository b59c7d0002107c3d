package ledgertest_test

import (
	"testing"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/ledgertest"
)

func TestMemoryPassesTheSuite(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, func(t *testing.T) (atmostonce.Ledger, atmostonce.Ledger) {
		t.Helper()
		t.Parallel()
		shared := new(ledgertest.Memory)
		return shared, shared
	})
}
