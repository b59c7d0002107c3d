package ledgertest

import (
	"context"
	"sync"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// Memory is a ledger in this process, for tests of services. The zero value is
// empty. It never forgets, so it is not for services themselves.
type Memory struct {
	// mu guards taken.
	mu    sync.Mutex
	taken map[string]struct{}
}

var _ atmostonce.Ledger = (*Memory)(nil)

// Begin implements [atmostonce.Ledger].
func (m *Memory) Begin(ctx context.Context, key string) (fresh bool, err error) {
	if err := atmostonce.CheckLedgerKey(key); err != nil {
		return false, err
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, taken := m.taken[key]; taken {
		return false, nil
	}
	if m.taken == nil {
		m.taken = make(map[string]struct{})
	}
	m.taken[key] = struct{}{}
	return true, nil
}
