package envconfig_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/internal/envconfig"
)

type example struct {
	Name  string        `env:"EXAMPLE_NAME"`
	List  []string      `env:"EXAMPLE_LIST"`
	After time.Duration `env:"EXAMPLE_AFTER"`
	On    bool          `env:"EXAMPLE_ON"`
}

func TestVariablesAreReadIntoTheirFields(t *testing.T) {
	for name, value := range map[string]string{
		"EXAMPLE_NAME": "x=y", "EXAMPLE_LIST": "a,b", "EXAMPLE_AFTER": "1m30s", "EXAMPLE_ON": "true", "EXAMPLE_OTHER_X": "1", "SAMPLE_NAME": "2",
	} {
		t.Setenv(name, value)
	}
	want := example{Name: "x=y", List: []string{"a", "b"}, After: 90 * time.Second, On: true}
	if got, err := envconfig.Read[example]("EXAMPLE_", "EXAMPLE_OTHER_"); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Read = %+v, %v, want %+v", got, err, want)
	}
	for _, name := range envconfig.Names(want) {
		t.Setenv(name, "")
	}
	if got, err := envconfig.Read[example]("EXAMPLE_", "EXAMPLE_OTHER_"); err != nil || !reflect.DeepEqual(got, example{}) {
		t.Errorf("of empty variables Read = %+v, %v", got, err)
	}
	if got, want := envconfig.Names(want), []string{"EXAMPLE_NAME", "EXAMPLE_LIST", "EXAMPLE_AFTER", "EXAMPLE_ON"}; !slices.Equal(got, want) {
		t.Errorf("Names = %q, want %q", got, want)
	}
}

func TestAWrongVariableIsNamed(t *testing.T) {
	for name, value := range map[string]string{"EXAMPLE_AFTER": "soon", "EXAMPLE_ON": "perhaps", "EXAMPLE_NAMES": "x", "EXAMPLE_WHATEVER": "x"} {
		t.Setenv(name, value)
	}
	_, err := envconfig.Read[example]("EXAMPLE_")
	if err == nil {
		t.Fatal("there is no error")
	}
	for _, want := range []string{
		`variable EXAMPLE_AFTER: `, `invalid duration "soon"`, `variable EXAMPLE_ON: `,
		"variable EXAMPLE_NAMES: is not known: remove it, or take another prefix: did you mean EXAMPLE_NAME?",
		"variable EXAMPLE_WHATEVER: is not known",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want one that says %q", err, want)
		}
	}
}
