package snippets_test

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
)

// mixed has the logic in its handlers.
type mixed struct {
	authv1.UnimplementedAuthServiceServer

	mu     sync.Mutex
	users  map[int64]*account
	byName map[string]int64
}

// PromoteToAdmin does everything by itself.
func (s *mixed) PromoteToAdmin(_ context.Context, req *authv1.PromoteToAdminRequest) (*authv1.PromoteToAdminResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, known := s.byName[req.GetUsername()]
	if !known {
		return nil, status.Errorf(codes.NotFound, "no such account: %q", req.GetUsername())
	}
	user := s.users[id]
	if user.banned {
		return nil, status.Error(codes.FailedPrecondition, "a banned account cannot become an administrator")
	}
	user.admin = true
	return &authv1.PromoteToAdminResponse{User: &authv1.User{Id: id, Username: req.GetUsername(), Admin: true}}, nil
}
