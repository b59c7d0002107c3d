package main

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/frameworktest"
)

func TestTheNewPasswordIsChecked(t *testing.T) {
	t.Parallel()
	kit := frameworktest.New(t, nil)
	auth := authv1.NewAuthServiceClient(kit)
	frameworktest.Fake(kit, auth.ResetPassword, func(context.Context, *authv1.ResetPasswordRequest) (*authv1.ResetPasswordResponse, error) {
		return &authv1.ResetPasswordResponse{Password: "n3w"}, nil
	})
	frameworktest.Fake(kit, auth.CheckPassword, func(context.Context, *authv1.CheckPasswordRequest) (*authv1.CheckPasswordResponse, error) {
		return &authv1.CheckPasswordResponse{Valid: true}, nil
	})
	if password, err := reset(t.Context(), auth, "adam"); err != nil || password != "n3w" {
		t.Errorf("reset = %q, %v", password, err)
	}
	checks := frameworktest.Calls(kit, auth.CheckPassword)
	if len(checks) != 1 || checks[0].Request.GetUsername() != "adam" || checks[0].Request.GetPassword() != "n3w" {
		t.Errorf("the caller checked %v", checks)
	}
}

func TestALostPasswordIsResetOnceMore(t *testing.T) {
	t.Parallel()
	for _, fault := range []frameworktest.Fault{frameworktest.ReplyLost(), frameworktest.ReplySettled(), frameworktest.RequestLost()} {
		kit := frameworktest.New(t, nil)
		auth := authv1.NewAuthServiceClient(kit)
		resets := 0
		frameworktest.Fake(kit, auth.ResetPassword, func(context.Context, *authv1.ResetPasswordRequest) (*authv1.ResetPasswordResponse, error) {
			resets++
			return &authv1.ResetPasswordResponse{Password: fmt.Sprintf("password %d", resets)}, nil
		})
		kit.Inject(auth.ResetPassword, fault)
		password, err := resetPassword(t.Context(), auth, "adam")
		if err != nil || password != fmt.Sprintf("password %d", resets) {
			t.Errorf("after %v the password is %q, %v; it was reset %d times", fault, password, err, resets)
		}
	}
}

func TestARefusedResetIsAnError(t *testing.T) {
	t.Parallel()
	kit := frameworktest.New(t, nil)
	auth := authv1.NewAuthServiceClient(kit)
	frameworktest.Fake(kit, auth.ResetPassword, func(context.Context, *authv1.ResetPasswordRequest) (*authv1.ResetPasswordResponse, error) {
		return nil, status.Error(codes.NotFound, "no such account")
	})
	_, err := resetPassword(t.Context(), auth, "nobody")
	if status.Code(err) != codes.NotFound || framework.OutcomeOf(err) != framework.Executed || len(frameworktest.Calls(kit, auth.ResetPassword)) != 1 {
		t.Errorf("resetPassword = %v", err)
	}
}
