package etcd_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/discovery/etcd"
)

func TestTheEnvironmentConfiguresARegistry(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"ONECALL_ETCD_ENDPOINTS": "https://etcd-0:2379,https://etcd-1:2379", "ONECALL_ETCD_NAMESPACE": "shop", "ONECALL_ETCD_TTL": "20s",
		"ONECALL_ETCD_CA": "ca", "ONECALL_ETCD_CERT": "cert", "ONECALL_ETCD_KEY": "key", "ONECALL_ETCD_USERNAME": "auth",
		"ONECALL_ETCD_PASSWORD_FILE": file, "ONECALL_ETCD_INSECURE": "true", "ONECALL_LISTEN": ":1", // of framework.FromEnv
	} {
		t.Setenv(name, value)
	}
	want := etcd.Config{
		Endpoints: []string{"https://etcd-0:2379", "https://etcd-1:2379"}, Namespace: "shop", TTL: 20 * time.Second,
		CAFile: "ca", CertFile: "cert", KeyFile: "key", Username: "auth", Password: "hunter2", Insecure: true,
	}
	if got, err := etcd.FromEnv(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("FromEnv = %+v, %v, want %+v", got, err, want)
	}
	t.Setenv("ONECALL_ETCD_PASSWORD_FILE", "")
	t.Setenv("ONECALL_ETCD_PASSWORD", "hunter2")
	if got, err := etcd.FromEnv(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("with the password FromEnv = %+v, %v, want %+v", got, err, want)
	}
}

func TestAWrongVariableOfEtcdIsNamed(t *testing.T) {
	t.Setenv("ONECALL_ETCD_PASSWORD", "hunter2")
	for name, test := range map[string]struct{ value, want string }{
		"ONECALL_ETCD_TTL":           {"soon", `etcd: variable ONECALL_ETCD_TTL: `},
		"ONECALL_ETCD_ENDPOINT":      {"http://a:1", "etcd: variable ONECALL_ETCD_ENDPOINT: is not known: remove it, or take another prefix: did you mean ONECALL_ETCD_ENDPOINTS?"},
		"ONECALL_ETCD_PASSWORD_FILE": {"/no/such/file", "etcd: variable ONECALL_ETCD_PASSWORD_FILE: ONECALL_ETCD_PASSWORD is set too"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, test.value)
			if _, err := etcd.FromEnv(); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("FromEnv = %v, want %q", err, test.want)
			}
		})
	}
	t.Setenv("ONECALL_ETCD_PASSWORD", "")
	t.Setenv("ONECALL_ETCD_PASSWORD_FILE", "/no/such/file")
	if _, err := etcd.FromEnv(); err == nil || !strings.Contains(err.Error(), "variable ONECALL_ETCD_PASSWORD_FILE: open /no/such/file") {
		t.Errorf("FromEnv = %v", err)
	}
}

// TestThePageOfConfigurationListsTheVariablesOfEtcd compares docs/configuration.md with
// the code.
func TestThePageOfConfigurationListsTheVariablesOfEtcd(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(ONECALL_ETCD_[A-Z_]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		shown = append(shown, row[1])
	}
	if want := etcd.Variables(); !slices.Equal(shown, want) {
		t.Errorf("the page lists %q, the code has %q", shown, want)
	}
}
