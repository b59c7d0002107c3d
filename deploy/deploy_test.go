package deploy_test

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/onecall-dev/onecall/discovery/etcd/embed"
	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/internal/certtest"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/fixedport"
	"github.com/onecall-dev/onecall/internal/testlog"
)

// shutdownTimeout is the default of the option ShutdownTimeout.
const shutdownTimeout = 25 * time.Second

// root is the root of the repository.
var root = ".."

// manifest is what kubernetes.yaml has.
type manifest struct {
	deployment appsv1.Deployment
	service    corev1.Service
	budget     policyv1.PodDisruptionBudget
}

// read reads a file of deploy/.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// readManifest reads kubernetes.yaml. A field that Kubernetes does not have fails the test.
func readManifest(t *testing.T) manifest {
	t.Helper()
	var found manifest
	for document := range strings.SplitSeq(read(t, "kubernetes.yaml"), "\n---\n") {
		var kind struct{ Kind string }
		if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
			t.Fatal(err)
		}
		into := map[string]any{"Deployment": &found.deployment, "Service": &found.service, "PodDisruptionBudget": &found.budget}[kind.Kind]
		if into == nil {
			t.Fatalf("the manifest has an object of the kind %q", kind.Kind)
		}
		if err := yaml.UnmarshalStrict([]byte(document), into); err != nil {
			t.Errorf("%s: %v", kind.Kind, err)
		}
	}
	return found
}

func TestTheManifestFitsTogether(t *testing.T) {
	t.Parallel()
	found := readManifest(t)
	pod := found.deployment.Spec.Template
	container := pod.Spec.Containers[0]
	for what, selector := range map[string]map[string]string{
		"Deployment":          found.deployment.Spec.Selector.MatchLabels,
		"Service":             found.service.Spec.Selector,
		"PodDisruptionBudget": found.budget.Spec.Selector.MatchLabels,
	} {
		if len(selector) == 0 || !labels.SelectorFromSet(selector).Matches(labels.Set(pod.Labels)) {
			t.Errorf("the selector of the %s is %v, the labels of the pod are %v", what, selector, pod.Labels)
		}
	}
	rolling := found.deployment.Spec.Strategy.RollingUpdate
	if rolling == nil || rolling.MaxUnavailable.IntValue() != 0 || rolling.MaxSurge.IntValue() < 1 || *found.deployment.Spec.Replicas < 2 {
		t.Errorf("a deploy can leave no instance to call: %+v", found.deployment.Spec.Strategy)
	}
	grace := time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second
	if container.Lifecycle != nil || grace <= shutdownTimeout || variable(container.Env, "ONECALL_TERMINATION_GRACE_PERIOD") != grace.String() {
		t.Errorf("a pod has %v to end, with a preStop hook: %v; the service is told %s", grace, container.Lifecycle, variable(container.Env, "ONECALL_TERMINATION_GRACE_PERIOD"))
	}
	lameDuck, err := time.ParseDuration(variable(container.Env, "ONECALL_LAME_DUCK"))
	probe := container.ReadinessProbe
	if unready := time.Duration(probe.PeriodSeconds*probe.FailureThreshold) * time.Second; err != nil || lameDuck <= unready {
		t.Errorf("the lame duck is %v, %v: kubelet needs %v to see that the pod is not ready", lameDuck, err, unready)
	}
	port := container.Ports[0]
	if probe.GRPC == nil || probe.GRPC.Port != port.ContainerPort || argument(container.Args, "-listen") != ":"+itoa(port.ContainerPort) ||
		found.service.Spec.Ports[0].TargetPort.StrVal != port.Name || container.LivenessProbe.TCPSocket.Port.StrVal != port.Name {
		t.Errorf("the ports are %+v of the container, %+v of its probe and %+v of the Service", port, probe.GRPC, found.service.Spec.Ports)
	}
	if !*pod.Spec.SecurityContext.RunAsNonRoot || *container.SecurityContext.AllowPrivilegeEscalation || !*container.SecurityContext.ReadOnlyRootFilesystem {
		t.Error("the container may do more than it needs")
	}
	if container.Resources.Limits.Memory().IsZero() || container.Resources.Requests.Cpu().IsZero() || !container.Resources.Limits.Cpu().IsZero() {
		t.Errorf("the resources are %+v, want a limit of memory, a request of CPU and no limit of CPU, which would hold up calls", container.Resources)
	}
	if !slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == container.VolumeMounts[0].Name }) ||
		!strings.HasPrefix(argument(container.Args, "-store"), container.VolumeMounts[0].MountPath) {
		t.Errorf("the store is at %s, the volumes are %+v at %+v", argument(container.Args, "-store"), pod.Spec.Volumes, container.VolumeMounts)
	}
}

func itoa(n int32) string { return strconv.Itoa(int(n)) }

// argument returns the value of a flag in arguments of the form -flag=value.
func argument(args []string, flag string) string {
	for _, arg := range args {
		if value, ok := strings.CutPrefix(arg, flag+"="); ok {
			return value
		}
	}
	return ""
}

// variable returns the value of a variable of the environment.
func variable(env []corev1.EnvVar, name string) string {
	for _, variable := range env {
		if variable.Name == name {
			return variable.Value
		}
	}
	return ""
}

// folder is where [built] builds. TestMain sets it.
var folder string

func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "deploy"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

// built builds the example service as the Dockerfile does, once.
var built = sync.OnceValues(func() (path string, err error) {
	dockerfile, err := os.ReadFile(filepath.Join(root, "deploy", "Dockerfile"))
	if err != nil {
		return "", err
	}
	command := regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0) go (build .*) -o (\S+) (\S+)$`).FindStringSubmatch(string(dockerfile))
	if len(command) == 0 || !strings.Contains(string(dockerfile), "COPY --from=build "+command[3]+" ") {
		return "", errors.New("the Dockerfile does not build a program and copy it")
	}
	path = filepath.Join(folder, "service")
	build := exec.Command("go", append(strings.Fields(command[2]), "-o", path, command[4])...)
	build.Dir, build.Env = root, append(os.Environ(), command[1])
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %w\n%s", build, err, out)
	}
	return path, nil
})

func build(t *testing.T) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheImageRunsTheServiceAsProcessOne(t *testing.T) {
	t.Parallel()
	text := read(t, "Dockerfile")
	stages := strings.Split(text, "\nFROM ")
	last := "FROM " + stages[len(stages)-1]
	entry := regexp.MustCompile(`(?m)^ENTRYPOINT (.*)$`).FindStringSubmatch(last)
	var command []string
	if len(entry) == 0 || json.Unmarshal([]byte(entry[1]), &command) != nil || len(command) != 1 {
		t.Errorf("the entry point is %q, want the exec form, in which there is no shell", entry)
	}
	if !strings.Contains(last, "\nUSER nonroot") || !strings.Contains(last, "nonroot\n") || strings.Contains(last, "STOPSIGNAL") {
		t.Errorf("the last stage is\n%s\nwant one of a user that is not root, which SIGTERM ends", last)
	}
	for _, port := range readManifest(t).deployment.Spec.Template.Spec.Containers[0].Ports {
		if !strings.Contains(last, "\nEXPOSE "+itoa(port.ContainerPort)+"\n") {
			t.Errorf("the image does not expose the port %d of the manifest", port.ContainerPort)
		}
	}
	if runtime.GOOS != "linux" {
		return // the program is of another format
	}
	program, err := elf.Open(build(t))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if slices.ContainsFunc(program.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Error("the program needs libraries, which the image does not have")
	}
}

// TestAPodOfTheManifestEndsWithoutALostCall runs the container's command, waits until its
// readiness probe succeeds, sends SIGTERM and calls as the Service does meanwhile.
func TestAPodOfTheManifestEndsWithoutALostCall(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no SIGTERM")
	}
	pod := readManifest(t).deployment.Spec.Template.Spec
	container := pod.Containers[0]
	server, err := embed.Start(t.Context(), embed.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	address := fixedport.Address(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	args := slices.Clone(container.Args)
	for i, arg := range args { // what a pod has of its own
		switch name, _, _ := strings.Cut(arg, "="); name {
		case "-etcd":
			args[i] = name + "=" + server.Endpoints()[0]
		case "-listen":
			args[i] = name + "=" + address
		case "-store":
			args[i] = name + "=" + filepath.Join(t.TempDir(), "accounts.json")
		}
	}
	var log testlog.Log
	running := exec.CommandContext(ctx, build(t), args...)
	running.Stdout, running.Stderr = &log, &log
	running.Env = append(os.Environ(), "KUBERNETES_SERVICE_HOST=10.0.0.1")
	for _, variable := range container.Env {
		if variable.ValueFrom == nil {
			running.Env = append(running.Env, variable.Name+"="+variable.Value)
		}
	}
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ready := func() bool {
		reply, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: *container.ReadinessProbe.GRPC.Service})
		return err == nil && reply.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING
	}
	eventually.True(t, "the readiness probe succeeds", ready)
	call := func() error {
		_, err := authv1.NewAuthServiceClient(conn).GetUser(ctx, &authv1.GetUserRequest{Username: "admin"})
		return err
	}
	if err := running.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	unready := false
	for !unready {
		if err := call(); err != nil {
			t.Fatalf("a call before the pod is not ready = %v\n%s", err, log.String())
		}
		unready = !ready()
	}
	if err := call(); err != nil {
		t.Errorf("a call after the pod is not ready = %v, want that the lame duck serves it", err)
	}
	fresh, err := net.Dial("tcp", address)
	if err != nil {
		t.Errorf("a connection during the lame duck: %v", err)
	} else {
		_ = fresh.Close()
	}
	began := time.Now()
	if err := running.Wait(); err != nil {
		t.Errorf("the pod ended with %v", err)
	}
	if took, grace := time.Since(began), time.Duration(*pod.TerminationGracePeriodSeconds)*time.Second; took > grace {
		t.Errorf("the pod took %v of %v to end", took, grace)
	}
	if text := log.String(); strings.Contains(text, " ERROR ") || strings.Contains(text, "terminationGracePeriodSeconds") || !strings.Contains(text, "the lame duck") {
		t.Errorf("the log of the pod:\n%s", text)
	}
}

// directive returns the value of a directive of the unit.
func directive(t *testing.T, unit, name string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^` + name + `=(.*)$`).FindStringSubmatch(unit)
	if found == nil {
		t.Fatalf("the unit has no %s", name)
	}
	return found[1]
}

// environment returns the variables that the unit sets.
func environment(unit string) (all []string) {
	for _, line := range regexp.MustCompile(`(?m)^Environment=(.*)$`).FindAllStringSubmatch(unit, -1) {
		all = append(all, strings.Fields(line[1])...)
	}
	return all
}

func TestTheUnitFitsTogether(t *testing.T) {
	t.Parallel()
	unit := read(t, "auth.service")
	limit, err := time.ParseDuration(directive(t, unit, "TimeoutStopSec"))
	command := strings.Fields(directive(t, unit, "ExecStart"))
	if err != nil || limit <= shutdownTimeout || !slices.Contains(environment(unit), "ONECALL_TERMINATION_GRACE_PERIOD="+limit.String()) {
		t.Errorf("systemd kills after %v (%v), the service has %q", limit, err, environment(unit))
	}
	if state := directive(t, unit, "StateDirectory"); command[slices.Index(command, "-store")+1] != "/var/lib/"+state+"/accounts.json" {
		t.Errorf("the command is %q and the folder %s", command, state)
	}
	verify, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not on this machine, so the unit is not verified: install systemd")
	}
	service := build(t)
	file := filepath.Join(t.TempDir(), "auth.service")
	if err := os.WriteFile(file, []byte(strings.Replace(unit, command[0], service, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), verify, "verify", "--man=no", "--recursive-errors=no", file).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// TestTheCommandOfTheUnitIsUnderstood runs it with an etcd that is not there.
func TestTheCommandOfTheUnitIsUnderstood(t *testing.T) {
	t.Parallel()
	unit := read(t, "auth.service")
	command := strings.Fields(directive(t, unit, "ExecStart"))[1:]
	command[slices.Index(command, "-listen")+1] = "127.0.0.1:0"
	command[slices.Index(command, "-store")+1] = filepath.Join(t.TempDir(), "accounts.json")
	var log testlog.Log
	running := exec.CommandContext(t.Context(), build(t), command...)
	running.Stderr, running.Env = &log, append(os.Environ(), "INVOCATION_ID=1")
	certificates := writeCertificates(t, "auth")
	for _, variable := range environment(unit) {
		running.Env = append(running.Env, strings.ReplaceAll(variable, "/etc/auth", certificates))
	}
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "the service serves", func() bool { return strings.Contains(log.String(), "INFO serving ") })
	if err := running.Process.Signal(os.Interrupt); err != nil {
		t.Skip("this system cannot interrupt a process")
	}
	if err := running.Wait(); err != nil {
		t.Errorf("the service ended with %v\n%s", err, log.String())
	}
}

// writeCertificates writes files of a certificate for a name, in the folder that it returns:
// ca.pem, cert.pem and key.pem.
func writeCertificates(t *testing.T, name string) string {
	t.Helper()
	authority, folder := certtest.NewAuthority(t), t.TempDir()
	issued := authority.Issue(t, certtest.Leaf{Names: []string{name}})
	certtest.Store(t, filepath.Join(folder, "ca.pem"), certtest.PEM(authority.Certificate))
	certtest.Store(t, filepath.Join(folder, "cert.pem"), certtest.PEM(issued.Leaf))
	certtest.Store(t, filepath.Join(folder, "key.pem"), certtest.KeyPEM(t, issued))
	return folder
}
