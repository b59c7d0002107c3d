package etcd

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/onecall-dev/onecall/internal/envconfig"
)

// environment has the variables of [FromEnv].
type environment struct {
	Endpoints    []string      `env:"ONECALL_ETCD_ENDPOINTS"`
	Namespace    string        `env:"ONECALL_ETCD_NAMESPACE"`
	TTL          time.Duration `env:"ONECALL_ETCD_TTL"`
	CA           string        `env:"ONECALL_ETCD_CA"`
	Cert         string        `env:"ONECALL_ETCD_CERT"`
	Key          string        `env:"ONECALL_ETCD_KEY"`
	Username     string        `env:"ONECALL_ETCD_USERNAME"`
	Password     string        `env:"ONECALL_ETCD_PASSWORD"`
	PasswordFile string        `env:"ONECALL_ETCD_PASSWORD_FILE"`
	Insecure     bool          `env:"ONECALL_ETCD_INSECURE"`
}

// FromEnv returns a configuration from variables of the environment whose names begin with
// ONECALL_ETCD_, such as ONECALL_ETCD_ENDPOINTS for Endpoints, separated by commas. The
// page docs/configuration.md lists them. A program can set fields of the result before it
// calls [Open]. A variable that is empty counts as not set. One that is not known or has a
// wrong value is an error that names it.
func FromEnv() (Config, error) {
	read, err := envconfig.Read[environment]("ONECALL_ETCD_")
	if err == nil && read.PasswordFile != "" {
		read.Password, err = read.readPassword()
	}
	if err != nil {
		return Config{}, fmt.Errorf("etcd: %w", err)
	}
	return Config{
		Endpoints: read.Endpoints, Namespace: read.Namespace, TTL: read.TTL, CAFile: read.CA, CertFile: read.Cert, KeyFile: read.Key,
		Username: read.Username, Password: read.Password, Insecure: read.Insecure,
	}, nil
}

// readPassword returns the password in a file, without the end of its line.
func (e environment) readPassword() (string, error) {
	if e.Password != "" {
		return "", errors.New("variable ONECALL_ETCD_PASSWORD_FILE: ONECALL_ETCD_PASSWORD is set too: leave one out")
	}
	content, err := os.ReadFile(e.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("variable ONECALL_ETCD_PASSWORD_FILE: %w", err)
	}
	return strings.TrimRight(string(content), "\r\n"), nil
}
