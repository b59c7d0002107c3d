package auth_test

import (
	"testing"

	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/interceptors/validate"
	"github.com/onecall-dev/onecall/internal/protoargs/encode"
)

// BenchmarkCheckPassword measures what one side does with a request of check_password: it
// checks the rules, which both sides do, and makes the request from named parameters, which
// a call by name does first. A reply has no rules.
func BenchmarkCheckPassword(b *testing.B) {
	method := authv1.File_auth_v1_auth_proto.Services().ByName("AuthService").Methods().ByName("CheckPassword")
	rules, err := validate.Compile("auth.check_password", method)
	if err != nil {
		b.Fatal(err)
	}
	request := &authv1.CheckPasswordRequest{Username: "admin", Password: "secret"}
	reply := &authv1.CheckPasswordResponse{Valid: true}
	plan := encode.NewPlan("auth.check_password", method.Input(), nil)
	args := map[string]any{"username": "admin", "password": "secret"}
	for _, bench := range []struct {
		name string
		do   func() error
	}{
		{"RulesOfTheRequest", func() error { return rules.CheckRequest(request) }},
		{"RulesOfTheReply", func() error { return rules.CheckReply(reply) }},
		{"RequestByName", func() error { _, err := plan.Encode(args); return err }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := bench.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
