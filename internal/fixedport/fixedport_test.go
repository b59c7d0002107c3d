package fixedport_test

import (
	"net"
	"sync"
	"testing"

	"github.com/onecall-dev/onecall/internal/fixedport"
)

func TestAReservedAddressCanBeBoundAgainAndAgain(t *testing.T) {
	t.Parallel()
	address := fixedport.Address(t)
	for range 3 {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNoAddressIsReservedTwice(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	reserved := make(map[string]bool)
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 50 {
				address := fixedport.Address(t)
				mu.Lock()
				if reserved[address] {
					t.Errorf("%s was reserved twice", address)
				}
				reserved[address] = true
				mu.Unlock()
			}
		})
	}
	callers.Wait()
}

func TestAnAddressWhereAServerListensIsNotReserved(t *testing.T) {
	t.Parallel()
	taken := fixedport.Address(t)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", taken)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	if _, err := fixedport.ReserveOne(t.Context(), taken); err == nil {
		t.Errorf("%s was reserved, although a server listens there", taken)
	}
}

func TestAnAddressCanBeReservedAgainAfterItsRelease(t *testing.T) {
	t.Parallel()
	address, release, err := fixedport.Reserve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fixedport.ReserveOne(t.Context(), address); err == nil {
		t.Fatalf("%s was reserved twice", address)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	release, err = fixedport.ReserveOne(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
}
