// Package accounts keeps the accounts of a site in a file. It is the logic
// behind the auth API and knows nothing of how it is called.
package accounts

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/rogpeppe/go-internal/lockedfile"
	"golang.org/x/crypto/bcrypt"
)

// ErrNotFound is returned if there is no such account.
var ErrNotFound = errors.New("no such account")

// The account of a fresh store.
const (
	adminName     = "admin"
	adminPassword = "secret"
)

// Account is an account without its password.
type Account struct {
	// ID is the primary key, from 1; it never changes.
	ID int64 `json:"id"`
	// Username is the natural key.
	Username string `json:"username"`
	// Admin is whether the account is an administrator's.
	Admin bool `json:"admin"`
}

// Store keeps accounts in a file that processes can share. Its methods are safe for
// concurrent use. Except for [ErrNotFound] they return errors of the file.
type Store struct {
	path string
	cost int // bcrypt's
	// absent is the hash to compare with if there is no account, so that the answer
	// takes as long as if there were one.
	absent []byte
}

// record is an account in the file.
type record struct {
	Account

	Hash []byte `json:"hash"`
}

// Open opens the store in a file. A new file gets the account "admin" with the password
// "secret", and an account with a random password for each other username. Passwords are
// stored as bcrypt hashes of a cost; 0 is bcrypt's default.
func Open(path string, cost int, others ...string) (*Store, error) {
	if cost == 0 {
		cost = bcrypt.DefaultCost
	}
	s := &Store{path: path, cost: cost}
	var err error
	if s.absent, err = s.hash(rand.Text()); err != nil {
		return nil, err
	}
	if err := private(path); err != nil {
		return nil, fmt.Errorf("accounts: opening the store: %w", err)
	}
	err = lockedfile.Transform(path, func(present []byte) ([]byte, error) {
		if len(present) > 0 {
			_, err := decode(present)
			return present, err
		}
		return s.fresh(others)
	})
	if err != nil {
		return nil, fmt.Errorf("accounts: opening the store: %w", err)
	}
	return s, nil
}

// private creates a file that only its owner can read, if it does not exist.
func private(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return file.Close()
}

// fresh returns the content of a new file.
func (s *Store) fresh(others []string) ([]byte, error) {
	var records []record
	for _, username := range append([]string{adminName}, others...) {
		if username == "" {
			return nil, errors.New("a username is empty")
		}
		if slices.ContainsFunc(records, func(r record) bool { return r.Username == username }) {
			return nil, fmt.Errorf("username %q is taken", username)
		}
		password := rand.Text()
		if username == adminName {
			password = adminPassword
		}
		hash, err := s.hash(password)
		if err != nil {
			return nil, err
		}
		account := Account{ID: int64(len(records) + 1), Username: username, Admin: username == adminName}
		records = append(records, record{Account: account, Hash: hash})
	}
	return json.MarshalIndent(records, "", "  ")
}

// ID returns the primary key of a username.
func (s *Store) ID(username string) (int64, error) {
	found, err := s.find(func(r record) bool { return r.Username == username })
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("%w: username %q", ErrNotFound, username)
	}
	return found.ID, err
}

// Get returns an account.
func (s *Store) Get(id int64) (Account, error) {
	found, err := s.find(func(r record) bool { return r.ID == id })
	return found.Account, err
}

// CheckPassword reports whether a username has an account with that password.
func (s *Store) CheckPassword(username, password string) (bool, error) {
	found, err := s.find(func(r record) bool { return r.Username == username })
	if err != nil && !errors.Is(err, ErrNotFound) {
		return false, err
	}
	known := err == nil
	hash := s.absent
	if known {
		hash = found.Hash
	}
	return bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil && known, nil
}

// ResetPassword sets a new random password for an account and returns it.
func (s *Store) ResetPassword(id int64) (string, error) {
	password := rand.Text()
	hash, err := s.hash(password)
	if err != nil {
		return "", err
	}
	return password, s.change(id, func(r *record) { r.Hash = hash })
}

// PromoteToAdmin makes an account an administrator's, if it is not one
// already.
func (s *Store) PromoteToAdmin(id int64) error {
	return s.change(id, func(r *record) { r.Admin = true })
}

// find returns the first account that wanted accepts.
func (s *Store) find(wanted func(record) bool) (record, error) {
	content, err := lockedfile.Read(s.path)
	if err != nil {
		return record{}, fmt.Errorf("accounts: %w", err)
	}
	records, err := decode(content)
	if err != nil {
		return record{}, err
	}
	if i := slices.IndexFunc(records, wanted); i >= 0 {
		return records[i], nil
	}
	return record{}, ErrNotFound
}

// change edits an account. Other processes see the whole change or none of it.
func (s *Store) change(id int64, edit func(*record)) error {
	return lockedfile.Transform(s.path, func(content []byte) ([]byte, error) {
		records, err := decode(content)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(records, func(r record) bool { return r.ID == id })
		if i < 0 {
			return nil, ErrNotFound
		}
		edit(&records[i])
		return json.MarshalIndent(records, "", "  ")
	})
}

func (s *Store) hash(password string) ([]byte, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), s.cost)
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	return hash, nil
}

func decode(content []byte) ([]record, error) {
	var records []record
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&records); err != nil {
		return nil, fmt.Errorf("accounts: the file does not hold accounts: %w", err)
	}
	return records, nil
}
