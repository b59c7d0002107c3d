package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/framework"
)

// settings say where etcd is and how to call instances. The flags have them, and each
// context. The names in YAML are those of the flags.
type settings struct {
	Etcd             []string `json:"etcd,omitempty"             yaml:"etcd,omitempty"`
	Namespace        string   `json:"namespace,omitempty"        yaml:"namespace,omitempty"`
	EtcdCA           string   `json:"etcdCa,omitempty"           yaml:"etcd-ca,omitempty"`
	EtcdCert         string   `json:"etcdCert,omitempty"         yaml:"etcd-cert,omitempty"`
	EtcdKey          string   `json:"etcdKey,omitempty"          yaml:"etcd-key,omitempty"`
	EtcdUser         string   `json:"etcdUser,omitempty"         yaml:"etcd-user,omitempty"`
	EtcdPasswordFile string   `json:"etcdPasswordFile,omitempty" yaml:"etcd-password-file,omitempty"`
	TLSCA            string   `json:"tlsCa,omitempty"            yaml:"tls-ca,omitempty"`
	TLSCert          string   `json:"tlsCert,omitempty"          yaml:"tls-cert,omitempty"`
	TLSKey           string   `json:"tlsKey,omitempty"           yaml:"tls-key,omitempty"`
	Insecure         bool     `json:"insecure,omitempty"         yaml:"insecure,omitempty"`
}

// textSetting is a setting with one text.
type textSetting struct {
	flag, help string
	// file says that the text is the name of a file.
	file bool
	in   func(*settings) *string
}

var textSettings = []textSetting{
	{"namespace", "first part of the keys in etcd (default " + etcd.DefaultNamespace + ")", false, func(s *settings) *string { return &s.Namespace }},
	{"etcd-ca", "file of the certificates that sign etcd's", true, func(s *settings) *string { return &s.EtcdCA }},
	{"etcd-cert", "file of the certificate for etcd", true, func(s *settings) *string { return &s.EtcdCert }},
	{"etcd-key", "file of its key", true, func(s *settings) *string { return &s.EtcdKey }},
	{"etcd-user", "user in etcd; the password is in --etcd-password-file or ONECALL_ETCD_PASSWORD", false, func(s *settings) *string { return &s.EtcdUser }},
	{"etcd-password-file", "file of the user's password", true, func(s *settings) *string { return &s.EtcdPasswordFile }},
	{"tls-ca", "file of the certificates that sign those of instances", true, func(s *settings) *string { return &s.TLSCA }},
	{"tls-cert", "file of the certificate for instances", true, func(s *settings) *string { return &s.TLSCert }},
	{"tls-key", "file of its key", true, func(s *settings) *string { return &s.TLSKey }},
}

// over returns the settings, with those of below where there are none.
func (s settings) over(below settings) settings {
	if len(s.Etcd) == 0 {
		s.Etcd = below.Etcd
	}
	for _, each := range textSettings {
		*each.in(&s) = cmp.Or(*each.in(&s), *each.in(&below))
	}
	s.Insecure = s.Insecure || below.Insecure
	return s
}

// etcdConfig returns where etcd is by the flags, the environment and the context, in this
// order.
func (p *program) etcdConfig() (etcd.Config, error) {
	config, err := etcd.FromEnv()
	if err != nil {
		return etcd.Config{}, err
	}
	below, err := p.context()
	if err != nil {
		return etcd.Config{}, err
	}
	chosen := p.settings.over(settings{
		Etcd: config.Endpoints, Namespace: config.Namespace, EtcdCA: config.CAFile, EtcdCert: config.CertFile, EtcdKey: config.KeyFile, EtcdUser: config.Username,
	})
	switch {
	case len(chosen.Etcd) > 0: // what a context says is for its own etcd, above all its password
		below = settings{Namespace: below.Namespace}
	case chosen.EtcdUser != "":
		below.EtcdPasswordFile = ""
	}
	if chosen.EtcdPasswordFile == "" && config.Password != "" {
		below.EtcdPasswordFile = ""
	}
	chosen = chosen.over(below)
	if chosen.EtcdPasswordFile != "" {
		content, err := os.ReadFile(chosen.EtcdPasswordFile)
		if err != nil {
			return etcd.Config{}, fmt.Errorf("--etcd-password-file: %w", err)
		}
		config.Password = strings.TrimRight(string(content), "\r\n")
	}
	if len(chosen.Etcd) == 0 {
		chosen.Etcd = []string{defaultEndpoint}
	}
	config.Endpoints, config.Namespace, config.Username = chosen.Etcd, chosen.Namespace, chosen.EtcdUser
	config.CAFile, config.CertFile, config.KeyFile = chosen.EtcdCA, chosen.EtcdCert, chosen.EtcdKey
	config.Logger = p.logger()
	return config, nil
}

// instanceSettings returns how to call instances by the flags and the context. They are
// empty if the environment says it and the flags do not.
func (p *program) instanceSettings() (settings, error) {
	chosen := settings{TLSCA: p.settings.TLSCA, TLSCert: p.settings.TLSCert, TLSKey: p.settings.TLSKey, Insecure: p.settings.Insecure}
	if chosen.hasInstances() {
		return chosen, nil
	}
	for _, name := range []string{"ONECALL_TLS_CA", "ONECALL_TLS_CERT", "ONECALL_TLS_KEY", "ONECALL_INSECURE"} {
		if os.Getenv(name) != "" {
			return settings{}, nil
		}
	}
	return p.context()
}

// hasInstances reports whether the settings say how to call instances.
func (s settings) hasInstances() bool {
	return s.TLSCA != "" || s.TLSCert != "" || s.TLSKey != "" || s.Insecure
}

// busOptions returns the options of a bus by the flags, the environment and the context.
func (p *program) busOptions(options ...framework.BusOption) ([]framework.BusOption, error) {
	chosen, err := p.instanceSettings()
	if err != nil {
		return nil, err
	}
	options = append(options, framework.FromEnv(), framework.Logger(p.logger()))
	if files := (framework.TLSFiles{CA: chosen.TLSCA, Cert: chosen.TLSCert, Key: chosen.TLSKey}); files != (framework.TLSFiles{}) {
		options = append(options, framework.TLS(files))
	}
	if chosen.Insecure {
		options = append(options, framework.Insecure())
	}
	return options, nil
}

// asFlag returns an error of the configuration of etcd in words of the flags.
func asFlag(err error) error {
	wrong, ok := errors.AsType[*etcd.ConfigError](err)
	if !ok {
		return err
	}
	field, _, _ := strings.Cut(wrong.Field, "[")
	if flag, ok := flagOfField[field]; ok {
		return errors.New(flag + ": " + fieldWords.Replace(wrong.Problem))
	}
	return err
}

// flagOfField has the flags of the fields of etcd.Config.
var flagOfField = map[string]string{
	"Endpoints": "--etcd", "Namespace": "--namespace", "CAFile": "--etcd-ca", "CertFile": "--etcd-cert", "KeyFile": "--etcd-key",
	"Username": "--etcd-user", "Password": "--etcd-password-file",
}

var fieldWords = strings.NewReplacer(
	"CAFile", "--etcd-ca", "CertFile", "--etcd-cert", "KeyFile", "--etcd-key", "Username", "--etcd-user", "Password", "--etcd-password-file",
	"set Insecure if", "set ONECALL_ETCD_INSECURE=true if",
)
