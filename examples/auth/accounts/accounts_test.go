package accounts_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/onecall-dev/onecall/examples/auth/accounts"
)

func newStore(t *testing.T, others ...string) *accounts.Store {
	t.Helper()
	store, err := accounts.Open(filepath.Join(t.TempDir(), "accounts.json"), bcrypt.MinCost, others...)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func TestAFreshStoreKnowsTheAdmin(t *testing.T) {
	t.Parallel()
	store := newStore(t, "adam")
	for _, test := range []struct {
		username, password string
		want               bool
	}{
		{"admin", "secret", true},
		{"admin", "Secret", false},
		{"admin", "", false},
		{"adam", "secr3t", false},
		{"nobody", "secret", false},
		{"", "", false},
	} {
		t.Run(fmt.Sprintf("%q with %q", test.username, test.password), func(t *testing.T) {
			t.Parallel()
			if got, err := store.CheckPassword(test.username, test.password); err != nil || got != test.want {
				t.Errorf("CheckPassword = %v, %v, want %v", got, err, test.want)
			}
		})
	}
}

func TestAccountsAreFoundAndChanged(t *testing.T) {
	t.Parallel()
	store := newStore(t, "adam")
	id, err := store.ID("adam")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := store.Get(id); err != nil || got != (accounts.Account{ID: id, Username: "adam"}) {
		t.Errorf("Get = %+v, %v", got, err)
	}
	for range 2 {
		if err := store.PromoteToAdmin(id); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := store.Get(id); err != nil || !got.Admin {
		t.Errorf("after PromoteToAdmin: %+v, %v", got, err)
	}
	first, err := store.ResetPassword(id)
	if err != nil {
		t.Fatal(err)
	}
	second, err := store.ResetPassword(id)
	if err != nil {
		t.Fatal(err)
	}
	old, err := store.CheckPassword("adam", first)
	if err != nil {
		t.Fatal(err)
	}
	now, err := store.CheckPassword("adam", second)
	if err != nil {
		t.Fatal(err)
	}
	if first == second || old || !now {
		t.Error("of two new passwords, only the second should be right")
	}
}

func TestWhatIsAbsentIsNotFound(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	_, err := store.ID("nobody")
	_, getErr := store.Get(99)
	_, resetErr := store.ResetPassword(99)
	for _, err := range []error{err, getErr, resetErr, store.PromoteToAdmin(99)} {
		if !errors.Is(err, accounts.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	}
}

func TestBadStoresAreErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.json")
	if err := os.WriteFile(broken, []byte(`{"accounts":`), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, open := range map[string]func() (*accounts.Store, error){
		`username "admin" is taken`: func() (*accounts.Store, error) {
			return accounts.Open(filepath.Join(dir, "1"), bcrypt.MinCost, "admin")
		},
		"a username is empty":             func() (*accounts.Store, error) { return accounts.Open(filepath.Join(dir, "2"), bcrypt.MinCost, "") },
		"cost 99":                         func() (*accounts.Store, error) { return accounts.Open(filepath.Join(dir, "3"), 99) },
		"the file does not hold accounts": func() (*accounts.Store, error) { return accounts.Open(broken, bcrypt.MinCost) },
		"no such file or directory":       func() (*accounts.Store, error) { return accounts.Open(filepath.Join(dir, "no", "4"), bcrypt.MinCost) },
	} {
		t.Run(want, func(t *testing.T) {
			if _, err := open(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Open = %v, want an error that says %q", err, want)
			}
		})
	}
}

func TestProcessesShareAStore(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "accounts.json")
	const promoters = 8
	names := make([]string, promoters)
	for i := range names {
		names[i] = fmt.Sprintf("user%d", i)
	}
	// Each goroutine opens the file itself, as processes do.
	var all sync.WaitGroup
	for i := range promoters {
		all.Go(func() {
			store, err := accounts.Open(path, bcrypt.MinCost, names...)
			if err != nil {
				t.Error(err)
				return
			}
			id, err := store.ID(names[i])
			if err != nil {
				t.Error(err)
				return
			}
			if err := store.PromoteToAdmin(id); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	store, err := accounts.Open(path, bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for i := range names {
		if account, err := store.Get(int64(i + 2)); err != nil || !account.Admin {
			t.Errorf("a promotion was lost: %+v, %v", account, err)
		}
	}
}
