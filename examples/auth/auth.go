// Package auth serves the auth API. It is a thin layer between the calls and the logic in
// package accounts: it converts natural keys to primary keys and errors to codes.
package auth

import (
	"context"
	"errors"
	"log/slog"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/examples/auth/accounts"
	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
)

// Server implements the auth API on a store of accounts.
type Server struct {
	authv1.UnimplementedAuthServiceServer

	accounts *accounts.Store
}

// NewServer returns the API's implementation.
func NewServer(store *accounts.Store) *Server { return &Server{accounts: store} }

// CheckPassword implements the RPC.
func (s *Server) CheckPassword(ctx context.Context, req *authv1.CheckPasswordRequest) (*authv1.CheckPasswordResponse, error) {
	valid, err := s.accounts.CheckPassword(req.GetUsername(), req.GetPassword())
	if err != nil {
		return nil, coded(ctx, err)
	}
	return &authv1.CheckPasswordResponse{Valid: valid}, nil
}

// ResetPassword implements the RPC.
func (s *Server) ResetPassword(ctx context.Context, req *authv1.ResetPasswordRequest) (*authv1.ResetPasswordResponse, error) {
	id, err := s.accounts.ID(req.GetUsername())
	if err != nil {
		return nil, coded(ctx, err)
	}
	password, err := s.accounts.ResetPassword(id)
	if err != nil {
		return nil, coded(ctx, err)
	}
	return &authv1.ResetPasswordResponse{Password: password}, nil
}

// GetUser implements the RPC.
func (s *Server) GetUser(ctx context.Context, req *authv1.GetUserRequest) (*authv1.GetUserResponse, error) {
	user, err := s.user(req.GetUsername())
	if err != nil {
		return nil, coded(ctx, err)
	}
	return &authv1.GetUserResponse{User: user}, nil
}

// PromoteToAdmin implements the RPC.
func (s *Server) PromoteToAdmin(ctx context.Context, req *authv1.PromoteToAdminRequest) (*authv1.PromoteToAdminResponse, error) {
	id, err := s.accounts.ID(req.GetUsername())
	if err != nil {
		return nil, coded(ctx, err)
	}
	if err := s.accounts.PromoteToAdmin(id); err != nil {
		return nil, coded(ctx, err)
	}
	user, err := s.user(req.GetUsername())
	if err != nil {
		return nil, coded(ctx, err)
	}
	return &authv1.PromoteToAdminResponse{User: user}, nil
}

// user returns the account of a username as callers see it.
func (s *Server) user(username string) (*authv1.User, error) {
	id, err := s.accounts.ID(username)
	if err != nil {
		return nil, err
	}
	account, err := s.accounts.Get(id)
	if err != nil {
		return nil, err
	}
	return &authv1.User{Id: account.ID, Username: account.Username, Admin: account.Admin}, nil
}

// coded returns an error of the logic with its gRPC code. Unexpected errors are logged and
// not shown to callers.
func coded(ctx context.Context, err error) error {
	if errors.Is(err, accounts.ErrNotFound) {
		return status.Error(codes.NotFound, err.Error())
	}
	slog.ErrorContext(ctx, "the accounts could not be used", "error", err)
	return status.Error(codes.Internal, "the accounts could not be used")
}
