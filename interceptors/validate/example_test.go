package validate_test

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/interceptors/validate"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// A request is checked against the rules in its .proto file. No error shows the password,
// because its field is marked debug_redact.
func Example() {
	check := testv1.File_onecall_test_v1_rules_proto.Services().ByName("RulesService").Methods().ByName("Check")
	method, err := validate.Compile("test.rules.check", check)
	if err != nil {
		fmt.Println(err)
		return
	}

	err = method.CheckRequest(&testv1.CheckRequest{Password: "secr3t"})
	fmt.Println(status.Code(err))
	if broken, ok := errors.AsType[*validate.Error](err); ok {
		for _, violation := range broken.Violations {
			fmt.Printf("%s: %s (%s)\n", violation.Field, violation.Message, violation.Rule)
		}
	}
	// Output:
	// InvalidArgument
	// username: must be at least 1 characters (string.min_len)
	// password: breaks the rule string.min_len = 8; the value is not shown (string.min_len)
}
