// Package browser drives a headless Chromium by its debugging protocol: it opens a page, does what a person does, and says what the
// page asked for and complained of.
package browser

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// patience bounds what a busy machine may take.
const patience = 2 * time.Minute

// Page is the one page of a browser of its own. Its methods fail the test where the browser does not answer.
type Page struct {
	t      testing.TB
	cmd    *exec.Cmd
	socket *websocket.Conn

	mu       sync.Mutex
	last     int
	waiting  map[int]chan reply
	requests []string
	errors   []string
	gone     error // why no answer comes any more
}

type reply struct {
	Result json.RawMessage
	Error  *struct{ Message string }
}

// Open starts a browser for the test, with an empty page, and ends it with the test. Without Chromium the test is skipped.
func Open(t testing.TB) *Page {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skipf("no browser on this machine: %v (Debian's package is chromium)", err)
	}
	dir := t.TempDir()
	cmd := exec.Command(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--user-data-dir="+dir,
		"--remote-debugging-port=0", "--no-first-run", "--no-default-browser-check", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-extensions", "--mute-audio", "about:blank")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = append(os.Environ(), "HOME="+dir, "TMPDIR="+dir) // or it leaves directories behind
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the browser: %v", err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // and its children
		<-ended
	})
	p := &Page{t: t, cmd: cmd, waiting: map[int]chan reply{}}
	address := p.debugger(filepath.Join(dir, "DevToolsActivePort"), ended)
	if p.socket, _, err = (&websocket.Dialer{HandshakeTimeout: patience}).Dial(address, nil); err != nil {
		t.Fatalf("connect to the browser: %v", err)
	}
	read := make(chan struct{})
	go func() { defer close(read); p.read() }()
	t.Cleanup(func() { p.socket.Close(); <-read })
	for _, domain := range []string{"Page", "Runtime", "Network", "Log", "Performance"} {
		p.Do(domain+".enable", nil, nil)
	}
	return p
}

// debugger returns the address of the page's debugger once the browser has said its port.
func (p *Page) debugger(portFile string, ended <-chan struct{}) string {
	p.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		select {
		case <-ended:
			p.t.Fatalf("the browser ended: %v", p.cmd.ProcessState)
		case <-time.After(20 * time.Millisecond):
		}
		text, err := os.ReadFile(portFile)
		port, _, whole := strings.Cut(string(text), "\n")
		if err != nil || !whole {
			continue
		}
		resp, err := http.Get("http://127.0.0.1:" + port + "/json/list")
		if err != nil {
			continue
		}
		var targets []struct{ Type, WebSocketDebuggerURL string }
		err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&targets)
		resp.Body.Close()
		if err != nil {
			continue
		}
		for _, target := range targets {
			if target.Type == "page" {
				return target.WebSocketDebuggerURL
			}
		}
	}
	p.t.Fatalf("the browser has no page after %v", patience)
	return ""
}

// read hands out replies and notes what the page does, until the connection ends.
func (p *Page) read() {
	for {
		var m struct {
			ID     int
			Method string
			Params json.RawMessage
			reply
		}
		err := p.socket.ReadJSON(&m)
		p.mu.Lock()
		if err != nil {
			p.gone = err
			for id, c := range p.waiting {
				close(c)
				delete(p.waiting, id)
			}
			p.mu.Unlock()
			return
		}
		if c := p.waiting[m.ID]; c != nil {
			c <- m.reply
			delete(p.waiting, m.ID)
		}
		p.note(m.Method, m.Params)
		p.mu.Unlock()
	}
}

// note remembers requests and complaints. The lock is held.
func (p *Page) note(method string, params json.RawMessage) {
	switch method {
	case "Network.requestWillBeSent":
		var e struct{ Request struct{ URL string } }
		if json.Unmarshal(params, &e) == nil {
			p.requests = append(p.requests, e.Request.URL)
		}
	case "Runtime.exceptionThrown":
		p.errors = append(p.errors, string(params))
	case "Runtime.consoleAPICalled", "Log.entryAdded":
		var e struct {
			Type  string
			Entry struct{ Level string }
		}
		if json.Unmarshal(params, &e) == nil && (e.Type == "error" || e.Type == "assert" || e.Entry.Level == "error") {
			p.errors = append(p.errors, string(params))
		}
	}
}

// Do calls a method of the debugging protocol. params and into may be nil.
func (p *Page) Do(method string, params map[string]any, into any) {
	p.t.Helper()
	if err := p.call(method, params, into); err != nil {
		p.t.Fatalf("%s: %v", method, err)
	}
}

func (p *Page) call(method string, params map[string]any, into any) error {
	answer := make(chan reply, 1)
	p.mu.Lock()
	if p.gone != nil {
		p.mu.Unlock()
		return p.gone
	}
	p.last++
	id := p.last
	p.waiting[id] = answer
	err := p.socket.WriteJSON(map[string]any{"id": id, "method": method, "params": params})
	p.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case r, ok := <-answer:
		switch {
		case !ok:
			return errors.New("the browser has ended")
		case r.Error != nil:
			return errors.New(r.Error.Message)
		case into == nil:
			return nil
		}
		return json.Unmarshal(r.Result, into)
	case <-time.After(patience):
		return context.DeadlineExceeded
	}
}

// Go opens an address.
func (p *Page) Go(url string) {
	p.t.Helper()
	p.Do("Page.navigate", map[string]any{"url": url}, nil)
	p.Wait("the page is loaded", `document.readyState === 'complete' && location.href !== 'about:blank'`)
}

// Eval returns the value of an expression, which may be a promise.
func (p *Page) Eval(expression string, into any) {
	p.t.Helper()
	if err := p.eval(expression, into); err != nil {
		p.t.Fatalf("evaluate %s: %v", expression, err)
	}
}

func (p *Page) eval(expression string, into any) error {
	var got struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	if err := p.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &got); err != nil {
		return err
	}
	if e := got.ExceptionDetails; e != nil {
		return fmt.Errorf("%s %s", e.Text, e.Exception.Description)
	}
	if into == nil || len(got.Result.Value) == 0 {
		return nil
	}
	return json.Unmarshal(got.Result.Value, into)
}

// Wait waits until an expression is true.
func (p *Page) Wait(what, expression string) {
	p.t.Helper()
	var last error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var ok bool
		if last = p.eval("!!("+expression+")", &ok); last == nil && ok {
			return
		}
	}
	var text string
	_ = p.eval("document.body.innerText", &text)
	p.t.Fatalf("not within %v: %s (%s): %v\nThe page:\n%s", patience, what, expression, last, text)
}

// Key presses a key, by its name in the DOM.
func (p *Page) Key(name string) {
	p.t.Helper()
	codes := map[string]int{
		"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "PageUp": 33, "PageDown": 34, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
	}
	key := map[string]any{"type": "rawKeyDown", "key": name, "code": name, "windowsVirtualKeyCode": codes[name]}
	switch {
	case name == "Enter":
		key["type"], key["text"] = "keyDown", "\r"
	case len(name) == 1:
		key["type"], key["text"] = "keyDown", name
	}
	p.Do("Input.dispatchKeyEvent", key, nil)
	p.Do("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": name, "code": name, "windowsVirtualKeyCode": codes[name]}, nil)
}

// Look sets the size of the window, and what the person prefers: dark colours, no motion.
func (p *Page) Look(width, height int, dark, still bool) {
	p.t.Helper()
	scheme, motion := "light", "no-preference"
	if dark {
		scheme = "dark"
	}
	if still {
		motion = "reduce"
	}
	p.Do("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil)
	p.Do("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{
		{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": motion},
	}}, nil)
}

// Picture returns what is on the screen as a PNG.
func (p *Page) Picture() []byte {
	p.t.Helper()
	var got struct{ Data string }
	p.Do("Page.captureScreenshot", map[string]any{"format": "png"}, &got)
	png, err := base64.StdEncoding.DecodeString(got.Data)
	if err != nil {
		p.t.Fatalf("picture: %v", err)
	}
	return png
}

// Requests returns the addresses that the page has asked for.
func (p *Page) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.requests...)
}

// Errors returns what the page has complained of: errors in its console, exceptions.
func (p *Page) Errors() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.errors...)
}

// PID is of the browser's first process; its children have it as their process group.
func (p *Page) PID() int { return p.cmd.Process.Pid }
