package snippets_test

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
)

// account is a user as the logic knows it.
type account struct {
	id            int64
	username      string
	admin, banned bool
}

var (
	errNotFound = errors.New("no such account")
	errBanned   = errors.New("a banned account cannot become an administrator")
)

// store is the logic. It knows accounts by their ids, and no gRPC.
type store struct {
	mu     sync.Mutex
	users  map[int64]*account
	byName map[string]int64
}

func (s *store) id(username string) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, known := s.byName[username]
	if !known {
		return 0, errNotFound
	}
	return id, nil
}

// promote makes an account an administrator.
func (s *store) promote(id int64) (account, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	user, known := s.users[id]
	switch {
	case !known:
		return account{}, errNotFound
	case user.banned:
		return account{}, errBanned
	}
	user.admin = true
	return *user, nil
}

// server is the API. It converts, and calls the logic.
type server struct {
	authv1.UnimplementedAuthServiceServer

	store *store
}

// PromoteToAdmin finds the id of the name, calls the logic and converts the result.
func (s *server) PromoteToAdmin(_ context.Context, req *authv1.PromoteToAdminRequest) (*authv1.PromoteToAdminResponse, error) {
	id, err := s.store.id(req.GetUsername())
	if err != nil {
		return nil, coded(err)
	}
	user, err := s.store.promote(id)
	if err != nil {
		return nil, coded(err)
	}
	return &authv1.PromoteToAdminResponse{User: &authv1.User{Id: user.id, Username: user.username, Admin: user.admin}}, nil
}

// coded returns an error of the logic with the code that callers know it by.
func coded(err error) error {
	switch {
	case errors.Is(err, errNotFound):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, errBanned):
		return status.Error(codes.FailedPrecondition, err.Error())
	default:
		return err // the caller learns an incident, and the log the error
	}
}
