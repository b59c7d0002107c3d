// Package scaffold has the files of a new project: a service that takes orders.
package scaffold

import (
	"bytes"
	"embed"
	"fmt"
	"go/format"
	"path"
	"regexp"
	"strings"
	"text/template"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/onecall-dev/onecall/internal/contract"
)

//go:embed project/*.tmpl
var templates embed.FS

// GoVersion is the version of Go that a project needs: that of the module of the framework.
const GoVersion = "1.26.0"

// Project is a new project.
type Project struct {
	// Name is the name of the API and of the command that serves it, such as shop.
	Name string
	// Module is the path of the Go module.
	Module string
	// Plugins are the packages of the plugins, which are tools of the project.
	Plugins []string
	// Requires are the modules that the project requires. go mod tidy adds the others.
	Requires []module.Version
	// Checkout is a folder with the source of Onecall, which the project uses instead of a
	// published version; "" for none.
	Checkout string
}

// projectName matches the names of projects: those of a Go package, a proto package and an
// API alike.
var projectName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// Check returns an error if the name or the module is not allowed.
func (p Project) Check() error {
	switch {
	case !projectName.MatchString(p.Name):
		return fmt.Errorf("%q cannot be the name of an API: use lower-case letters, digits and underscores, such as %s", p.Name, suggestion(p.Name))
	case contract.CheckName(p.Name) != nil || p.Name == "onecall":
		return fmt.Errorf("%q is reserved: choose another name", p.Name)
	}
	if err := module.CheckImportPath(p.Module); err != nil {
		return fmt.Errorf("--module: %w", err)
	}
	if err := module.CheckImportPath(p.Module + "/cmd/" + p.Name); err != nil {
		return fmt.Errorf("%q cannot be the name of a folder: choose another name", p.Name)
	}
	return nil
}

// suggestion returns an allowed name that is like another.
func suggestion(name string) string {
	like := strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(contract.SnakeCase(name), "_"), "_")
	if !projectName.MatchString(like) {
		return "shop"
	}
	return like
}

// Pascal returns the name in the form of a message or a service, such as MyShop.
func (p Project) Pascal() string {
	var out strings.Builder
	for word := range strings.SplitSeq(p.Name, "_") {
		if word != "" {
			out.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return out.String()
}

// Package returns the name of the Go package of the API, such as shopv1.
func (p Project) Package() string { return strings.ReplaceAll(p.Name, "_", "") + "v1" }

// Go returns the version of Go in go.mod.
func (p Project) Go() string { return GoVersion }

// GoMinor returns the version of Go without its last number.
func (p Project) GoMinor() string { return GoVersion[:strings.LastIndexByte(GoVersion, '.')] }

// Replace returns the folder of the checkout as go.mod has it.
func (p Project) Replace() string { return modfile.AutoQuote(p.Checkout) }

// Files returns the files of the project by their paths, except the generated ones.
func (p Project) Files() (map[string]string, error) {
	parsed, err := template.ParseFS(templates, "project/*.tmpl")
	if err != nil {
		return nil, err
	}
	files := make(map[string]string)
	for file, name := range map[string]string{
		"go.mod":                     "go.mod",
		".gitignore":                 "gitignore",
		".dockerignore":              "dockerignore",
		"Makefile":                   "Makefile",
		"Dockerfile":                 "Dockerfile",
		"README.md":                  "README.md",
		"buf.yaml":                   "buf.yaml",
		"buf.gen.yaml":               "buf.gen.yaml",
		"orders/orders.go":           "orders",
		"orders/orders_test.go":      "orders_test",
		"server/server.go":           "server",
		"server/server_test.go":      "server_test",
		"demo/main.go":               "demo",
		"cmd/" + p.Name + "/main.go": "main",
		"proto/" + p.Name + "/v1/" + p.Name + ".proto": "proto",
	} {
		var text bytes.Buffer
		if err := parsed.ExecuteTemplate(&text, name+".tmpl", p); err != nil {
			return nil, err
		}
		files[file] = text.String()
		if path.Ext(file) == ".go" {
			formatted, err := format.Source(text.Bytes())
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			files[file] = string(formatted)
		}
	}
	return files, nil
}
