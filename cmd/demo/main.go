// Command demo is what the sample pods of manifests/ run: a web server and two
// small programs that share a directory. It is one static binary, made into an
// image by cmd/demo-image, and needs no privileges.
//
//	demo web [DIR]          serve a page about the pod, and the files of DIR, on :8080
//	demo init FILE TEXT     write TEXT to FILE, and exit
//	demo write FILE         append a line with the time to FILE every 5 s
//	demo say TEXT CODE      say TEXT and exit with CODE
//	demo stay               do nothing until it is told to end; with "deaf", do not hear that either
//	demo eat MIB            use that much memory and stay
//	demo check FILE         exit with 0 if FILE is there, for probes
package main

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

func main() {
	// As PID 1 a program gets only the signals that it handles.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		var e ended
		if errors.As(err, &e) {
			os.Exit(int(e))
		}
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	switch {
	case len(args) == 1 && args[0] == "web":
		return web(ctx, page(""), out)
	case len(args) == 2 && args[0] == "web":
		return web(ctx, page(args[1]), out)
	case len(args) == 3 && args[0] == "init":
		fmt.Fprintf(out, "writing %s\n", args[1])
		return os.WriteFile(args[1], []byte(args[2]+"\n"), 0o644)
	case len(args) == 2 && args[0] == "write":
		return write(ctx, args[1], 5*time.Second, out)
	case len(args) == 3 && args[0] == "say":
		return say(args[1], args[2], out)
	case len(args) == 1 && args[0] == "stay":
		return stay(ctx, out)
	case len(args) == 2 && args[0] == "stay" && args[1] == "deaf":
		return stay(context.Background(), out)
	case len(args) == 2 && args[0] == "eat":
		return eat(ctx, args[1], out)
	case len(args) == 2 && args[0] == "check":
		_, err := os.Stat(args[1])
		return err
	}
	return errors.New("usage: demo web [DIR] | demo init FILE TEXT | demo write FILE | demo say TEXT CODE | demo stay [deaf] | demo eat MIB | demo check FILE")
}

// ended is how a program says with which code it exits.
type ended int

// Error implements error.
func (e ended) Error() string { return fmt.Sprintf("exit %d", int(e)) }

func say(text, code string, out io.Writer) error {
	n, err := strconv.Atoi(code)
	if err != nil || n < 0 || n > 255 {
		return fmt.Errorf("%q is no exit code", code)
	}
	fmt.Fprintln(out, text)
	if n == 0 {
		return nil
	}
	return ended(n)
}

func stay(ctx context.Context, out io.Writer) error {
	fmt.Fprintln(out, "here")
	<-ctx.Done()
	fmt.Fprintln(out, "told to end")
	return nil
}

// eat takes memory a piece at a time, and writes to each page so that the kernel has to give it.
func eat(ctx context.Context, mib string, out io.Writer) error {
	n, err := strconv.Atoi(mib)
	if err != nil || n < 1 || n > 4096 {
		return fmt.Errorf("%q is no number of MiB", mib)
	}
	var eaten [][]byte
	for range n {
		piece := make([]byte, 1<<20)
		for i := 0; i < len(piece); i += 4096 {
			piece[i] = 1
		}
		eaten = append(eaten, piece)
	}
	fmt.Fprintf(out, "ate %d MiB\n", len(eaten))
	<-ctx.Done()
	return nil
}

// lastAnswers is how long requests in progress may take after the signal to stop.
const lastAnswers = time.Second

func web(ctx context.Context, handler http.Handler, out io.Writer) error {
	listener, err := net.Listen("tcp", ":8080")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "serving on %s\n", listener.Addr())
	return serve(ctx, listener, handler, out)
}

// serve answers until the context ends; it closes the listener.
func serve(ctx context.Context, listener net.Listener, handler http.Handler, out io.Writer) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	fmt.Fprintln(out, "told to end")
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastAnswers)
	defer cancel()
	if err := server.Shutdown(last); err != nil {
		// A client that holds on must cost the pod neither its grace period nor its exit
		// code.
		_ = server.Close()
	}
	<-failed
	return nil
}

// page shows which pod this is, and the files of a directory.
func page(dir string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		host, _ := os.Hostname()
		fmt.Fprintf(w, "<!doctype html><title>mini-kubelet</title>\n<h1>Hello from %s</h1>\n", html.EscapeString(host))
		for _, name := range []string{"POD_NAME", "POD_NAMESPACE", "POD_IP", "NODE_NAME"} {
			if value := os.Getenv(name); value != "" {
				fmt.Fprintf(w, "<p>%s is %s</p>\n", name, html.EscapeString(value))
			}
		}
		if dir == "" {
			return
		}
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			return
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				continue
			}
			fmt.Fprintf(w, "<h2>%s</h2>\n<pre>%s</pre>\n", html.EscapeString(filepath.Base(file)), html.EscapeString(string(text)))
		}
	})
}

// write keeps the file short: a program that runs for months must not fill a disk.
func write(ctx context.Context, file string, every time.Duration, out io.Writer) error {
	const most = 20
	var lines []string
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		lines = append(lines, time.Now().UTC().Format(time.RFC3339))
		lines = lines[max(0, len(lines)-most):]
		text := ""
		for _, l := range lines {
			text += l + "\n"
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
		fmt.Fprintln(out, lines[len(lines)-1])
		select {
		case <-ctx.Done():
			fmt.Fprintln(out, "told to end")
			return nil
		case <-tick.C:
		}
	}
}
