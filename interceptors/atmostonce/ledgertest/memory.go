package ledgertest

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// Memory is a ledger in this process, for tests of services. The zero value is
// empty. It never forgets, so it is not for services themselves.
type Memory struct {
	// mu guards entries.
	mu      sync.Mutex
	entries map[string]atmostonce.LedgerEntry
}

var _ atmostonce.SettlingLedger = (*Memory)(nil)

// Begin implements [atmostonce.Ledger].
func (m *Memory) Begin(ctx context.Context, key string) (fresh bool, err error) {
	return m.Take(ctx, key, atmostonce.LedgerEntry{})
}

// Take implements [atmostonce.SettlingLedger].
func (m *Memory) Take(ctx context.Context, key string, entry atmostonce.LedgerEntry) (fresh bool, err error) {
	if err := check(ctx, key, entry); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, taken := m.entries[key]; taken {
		return false, nil
	}
	if m.entries == nil {
		m.entries = make(map[string]atmostonce.LedgerEntry)
	}
	m.entries[key] = entry
	return true, nil
}

// Done implements [atmostonce.SettlingLedger].
func (m *Memory) Done(ctx context.Context, key string, entry atmostonce.LedgerEntry) error {
	if err := check(ctx, key, entry); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, taken := m.entries[key]; taken {
		m.entries[key] = entry
	}
	return nil
}

// Find implements [atmostonce.SettlingLedger].
func (m *Memory) Find(ctx context.Context, key string) (entry atmostonce.LedgerEntry, known bool, err error) {
	if err := check(ctx, key, atmostonce.LedgerEntry{}); err != nil {
		return atmostonce.LedgerEntry{}, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	entry, known = m.entries[key]
	return entry, known, nil
}

// Retention implements [atmostonce.SettlingLedger].
func (*Memory) Retention() time.Duration { return math.MaxInt64 }

// check returns an error if a method must do nothing.
func check(ctx context.Context, key string, entry atmostonce.LedgerEntry) error {
	return errors.Join(ctx.Err(), atmostonce.CheckLedgerKey(key), entry.Check())
}
