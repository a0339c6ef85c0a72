// Command summary reads `go test -json` and writes what go test would have
// written, and at the end every skipped test with its reason, the result of every
// package and what each failed test said: the logs that it shows with that are long,
// and whoever reads a build's output has its end. It exits with 1 when anything failed,
// or when nothing ran.
//
// Packages whose path contains one of the -verbose words are shown in full as
// they run; of the others only failures and the package's line.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

func main() {
	verbose := flag.String("verbose", "", "show packages whose path contains one of these comma-separated words in full")
	flag.Parse()
	var words []string
	if *verbose != "" {
		words = strings.Split(*verbose, ",")
	}
	os.Exit(summarize(os.Stdin, os.Stdout, words))
}

// event is one line of `go test -json`, as `go doc test2json` describes it.
type event struct {
	Action, Package, Test, Output, ImportPath string
}

type testName struct{ pkg, test string }

func summarize(in io.Reader, out io.Writer, verbose []string) int {
	output := map[testName][]string{} // of tests and packages that have not ended
	var skipped, failures, results []string
	failed := false
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(out, lines.Text()) // not of test2json: show it as it is
			failed = failed || strings.HasPrefix(lines.Text(), "FAIL")
			continue
		}
		full := contains(verbose, e.Package)
		name := testName{e.Package, e.Test}
		switch e.Action {
		case "build-output":
			fmt.Fprint(out, e.Output)
		case "build-fail":
			failed = true
		case "output":
			if full {
				fmt.Fprint(out, e.Output)
			}
			output[name] = append(output[name], e.Output)
		case "pass", "fail", "skip":
			text := output[name]
			delete(output, name)
			if e.Action == "fail" {
				failed = true
				if !full {
					fmt.Fprint(out, strings.Join(text, ""))
				}
			}
			switch {
			case e.Test == "":
				line := resultLine(e, text)
				results = append(results, line)
				if !full && e.Action != "fail" {
					fmt.Fprint(out, line)
				}
			case e.Action == "skip":
				skipped = append(skipped, reason(e.Test, text))
			case e.Action == "fail":
				failures = append(failures, complaints(e.Test, text))
			}
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(out, "read test output:", err)
		failed = true
	}
	if len(skipped) > 0 {
		fmt.Fprintf(out, "\n%d tests were skipped:\n%s\n", len(skipped), strings.Join(skipped, "\n"))
	} else {
		fmt.Fprintln(out, "\nno test was skipped")
	}
	fmt.Fprint(out, "\n", strings.Join(results, ""))
	if len(failures) > 0 {
		fmt.Fprintf(out, "\n%d tests failed:\n%s\n", len(failures), strings.Join(failures, "\n"))
	}
	if failed || len(results) == 0 {
		fmt.Fprintln(out, "FAIL")
		return 1
	}
	return 0
}

func contains(words []string, path string) bool {
	for _, w := range words {
		if strings.Contains(path, w) {
			return true
		}
	}
	return false
}

// resultLine is go test's own line for a package: "ok", "FAIL" or "?".
func resultLine(e event, text []string) string {
	for i := len(text) - 1; i >= 0; i-- {
		for _, prefix := range []string{"ok  ", "FAIL\t", "?   "} {
			if strings.HasPrefix(text[i], prefix) {
				return text[i]
			}
		}
	}
	return fmt.Sprintf("%s\t%s\n", strings.ToUpper(e.Action), e.Package)
}

// reason is what a skipped test printed, without go test's own lines.
func reason(test string, text []string) string {
	var why []string
	for _, line := range text {
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || strings.HasPrefix(trimmed, "=== ") || strings.HasPrefix(trimmed, "--- ") {
			continue
		}
		why = append(why, trimmed)
	}
	return fmt.Sprintf("--- SKIP: %s\n    %s", test, strings.Join(why, "\n    "))
}

// said is a line of t.Log or t.Error, indented by how deep the test stands, or the
// first of a panic.
var said = regexp.MustCompile(`^(\s+[\w.-]+\.go:\d+: |panic: )`)

const (
	maxComplaints = 20  // of a test; its last ones, as those made it end
	maxComplaint  = 500 // bytes of a line
)

// complaints is what a failed test said by itself, without the lines that follow each
// of its messages: those are somebody's log.
func complaints(test string, text []string) string {
	var lines []string
	for _, line := range text {
		if said.MatchString(line) {
			line = strings.TrimSpace(line)
			lines = append(lines, "\n    "+line[:min(len(line), maxComplaint)])
		}
	}
	return "--- FAIL: " + test + strings.Join(lines[max(0, len(lines)-maxComplaints):], "")
}
