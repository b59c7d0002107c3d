package browsertest_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/eventually"
)

var screenshot = flag.String("screenshot", "", "file for a screenshot of the page")

// limit is how long a browser may take. It is far more than a busy machine needs.
const limit = 5 * time.Minute

// server serves auth: it knows one user.
type server struct {
	authv1.UnimplementedAuthServiceServer
}

func (server) CheckPassword(_ context.Context, request *authv1.CheckPasswordRequest) (*authv1.CheckPasswordResponse, error) {
	switch request.GetUsername() {
	case "admin":
		return &authv1.CheckPasswordResponse{}, nil
	case "broken":
		return nil, status.Error(codes.Internal, "the database does not answer")
	default:
		return nil, status.Error(codes.NotFound, "there is no such user")
	}
}

// served serves auth with a status page, and returns its address and a call.
func served(t *testing.T) (page string, call func(username string)) {
	t.Helper()
	var log bytes.Buffer
	registry, admin := memory.New(), framework.Admin("127.0.0.1:0")
	logger := framework.Logger(slog.New(slog.NewTextHandler(&log, nil)))
	service, err := framework.Start(context.Background(), registry, func(apis grpc.ServiceRegistrar) { authv1.RegisterAuthServiceServer(apis, server{}) },
		logger, admin, framework.Zone("eu-1"))
	if err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`url=(\S+)`).FindStringSubmatch(log.String())
	bus, err := framework.NewBus(registry, framework.Logger(slog.New(slog.DiscardHandler)), admin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(bus.Close(), service.Stop(context.Background())); err != nil {
			t.Error(err)
		}
	})
	client := authv1.NewAuthServiceClient(bus)
	call = func(username string) {
		_, _ = client.CheckPassword(t.Context(), &authv1.CheckPasswordRequest{Username: username, Password: "secret"})
	}
	for range 200 {
		call("admin")
	}
	call("nobody")
	call("broken")
	return address[1], call
}

// tabOf is a tab of a browser.
type tabOf struct{ ctx context.Context }

// browse returns a tab of a new browser. Its errors fail the test: whatever its console
// shows, such as what the page's policy forbids.
func browse(t *testing.T) tabOf {
	t.Helper()
	options := append([]chromedp.ExecAllocatorOption{}, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(limit))
	allocated, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	limited, cancelLimit := context.WithTimeout(allocated, limit)
	t.Cleanup(cancelLimit)
	tab, cancelTab := chromedp.NewContext(limited)
	t.Cleanup(cancelTab)
	var mu sync.Mutex // guards problems
	var problems []string
	err := chromedp.Listen(tab, func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch event := event.(type) {
		case *runtime.EventExceptionThrown:
			problems = append(problems, event.ExceptionDetails.Text)
		case *cdplog.EventEntryAdded:
			problems = append(problems, event.Entry.Text)
		}
	})
	if err != nil {
		t.Fatalf("the browser does not start: install Debian's package chromium: %v", err)
	}
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		if len(problems) > 0 {
			t.Errorf("the console of the browser shows %q", problems)
		}
	})
	do(t, tabOf{tab}, command(cdplog.Enable, cdp.Empty{}))
	return tabOf{tab}
}

// do does something in a tab.
func do(t *testing.T, in tabOf, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(in.ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// command returns the action of a command without a result.
func command[P any](of cdp.Command[P, cdp.Empty], parameters P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, of, parameters)
		return err
	})
}

// value returns the value of an expression of JavaScript.
func value[V any](t *testing.T, in tabOf, expression string) V {
	t.Helper()
	result, err := chromedp.Run(in.ctx, chromedp.Evaluate[V](expression))
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// until waits until an expression of JavaScript is true.
func until(t *testing.T, in tabOf, expression string) {
	t.Helper()
	eventually.True(t, expression, func() bool { return value[bool](t, in, expression) })
}

// open opens the page, and waits until it is live.
func open(t *testing.T, in tabOf, page string) {
	t.Helper()
	do(t, in, chromedp.Navigate(page))
	until(t, in, `document.documentElement.dataset.live === "yes"`)
}

func TestThePageShowsNewCallsByItself(t *testing.T) {
	if *screenshot != "" {
		os.Args[0] = "auth" // the name of the program
	}
	page, call := served(t)
	tab := browse(t)
	do(t, tab, chromedp.EmulateViewport(1280, 1100))
	open(t, tab, page)
	call("broken")
	call("broken")
	until(t, tab, `document.querySelectorAll("#recent tbody tr").length === 8`) // both sides of four calls
	text := value[string](t, tab, `document.body.innerText`)
	for _, want := range []string{
		"Live: new values", "auth.v1.AuthService/CheckPassword", "executed 4", "INTERNAL", "the database does not answer", "registered", "eu-1", "available",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not show %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "secret") {
		t.Error("the page shows a password")
	}
	if *screenshot != "" {
		image, err := chromedp.Run(tab.ctx, chromedp.FullScreenshot(100))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(*screenshot, image, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestThePageIsReadableWithoutJavaScript(t *testing.T) {
	page, _ := served(t)
	tab := browse(t)
	do(t, tab, command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}), chromedp.Navigate(page))
	text := value[string](t, tab, `document.body.innerText`) // scripts of the page do not run
	for _, want := range []string{"Reload the page for new ones", "auth.v1.AuthService/CheckPassword", "NOT_FOUND", "executed 2"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not show %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "Pause") {
		t.Error("the page has a button that does nothing")
	}
}

func TestThePageFitsAPhone(t *testing.T) {
	page, _ := served(t)
	tab := browse(t)
	const width = 360
	do(t, tab, chromedp.EmulateViewport(width, 740, chromedp.EmulateMobile))
	open(t, tab, page)
	if got := value[int](t, tab, `document.documentElement.scrollWidth`); got > width {
		t.Errorf("the page is %d wide, on a screen of %d", got, width)
	}
	if size := value[float64](t, tab, `parseFloat(getComputedStyle(document.querySelector("td")).fontSize)`); size < 14 {
		t.Errorf("the text is %v high", size)
	}
}

// contrast returns the least contrast of the texts of a class to the background, as WCAG
// computes it.
const contrast = `(() => {
  const light = (color) => {
    const [r, g, b] = color.match(/[\d.]+/g).map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = light(getComputedStyle(document.body).backgroundColor);
  let least = 21;
  for (const element of document.querySelectorAll("body, .good, .bad, a")) {
    const text = light(getComputedStyle(element).color);
    least = Math.min(least, (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05));
  }
  return [ground, least];
})()`

func TestThePageHasContrastInLightAndDark(t *testing.T) {
	page, _ := served(t)
	for _, scheme := range []string{"light", "dark"} {
		t.Run(scheme, func(t *testing.T) {
			tab := browse(t)
			do(t, tab, command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
			}))
			open(t, tab, page)
			got := value[[]float64](t, tab, contrast)
			ground, least := got[0], got[1]
			if dark := ground < 0.2; dark != (scheme == "dark") {
				t.Errorf("the background has the luminance %v", ground)
			}
			const readable = 4.5
			if least < readable {
				t.Errorf("the least contrast is %v, want %v", least, readable)
			}
		})
	}
}

func TestThePageIsUsedByKeyboard(t *testing.T) {
	page, call := served(t)
	tab := browse(t)
	open(t, tab, page)
	const focused = `document.activeElement.id || document.activeElement.getAttribute("href") || document.activeElement.getAttribute("aria-labelledby") || document.activeElement.getAttribute("aria-label") || ""`
	var reached []string
	for range 12 {
		do(t, tab, chromedp.KeyEvent(kb.Tab))
		reached = append(reached, value[string](t, tab, focused))
		if outline := value[string](t, tab, `getComputedStyle(document.activeElement).outlineStyle`); outline == "none" {
			t.Errorf("%q shows no focus", reached[len(reached)-1])
		}
		if reached[len(reached)-1] == "pause" {
			do(t, tab, chromedp.KeyEvent(" "))
			if pressed := value[string](t, tab, `document.activeElement.getAttribute("aria-pressed")`); pressed != "true" {
				t.Errorf("after Space the button is pressed: %s", pressed)
			}
			do(t, tab, chromedp.KeyEvent(" "))
		}
		if reached[len(reached)-1] == "recent-title" {
			break
		}
	}
	got := fmt.Sprint(reached)
	for _, want := range []string{"#rpcs", "status.json", "pause", "rpcs-title", "recent-title"} {
		if !strings.Contains(got, want) {
			t.Errorf("the keyboard does not reach %s: %s", want, got)
		}
	}
	call("broken") // new values must not take the focus away
	until(t, tab, `document.querySelector("#rpcs").innerText.includes("executed 3")`)
	if still := value[string](t, tab, focused); still != "recent-title" {
		t.Errorf("new values moved the focus to %q", still)
	}
}
