package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	called   = regexp.MustCompile("(?:^|[ `(])(?:bin/)?mini-kubelet((?: [^`|]+)?)(?:`|$| \\|)")
	shellEnd = regexp.MustCompile(`\s+(#|>|2>|&&|\.\.\.)\s*.*$`)
)

// Commands of the documents exist, and take the flags that stand there. Those of README and the tour are run, too: TestReadme and
// TestTour of test/integration.
func TestDocumentsNameOnlyCommandsThatExist(t *testing.T) {
	const root = "../.."
	pages := []string{filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md")}
	if err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			pages = append(pages, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range commandsOf(string(text)) {
			found++
			if err := parses(line); err != nil {
				t.Errorf("%s, command %d: mini-kubelet %s: %v", page, i+1, line, err)
			}
		}
	}
	if found < 60 {
		t.Errorf("the documents have only %d commands: this test does not find them", found)
	}
}

// commandsOf returns what follows the program's name in code spans and in lines of fenced blocks that begin with it.
func commandsOf(text string) (all []string) {
	fenced := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
			continue
		}
		if fenced {
			line = strings.TrimPrefix(strings.TrimPrefix(line, "$ "), "sudo ")
			if !strings.HasPrefix(line, "bin/mini-kubelet ") && !strings.HasPrefix(line, "mini-kubelet ") {
				continue
			}
			_, args, _ := strings.Cut(line, "mini-kubelet ")
			all = append(all, args)
			continue
		}
		for i, span := range strings.Split(line, "`") {
			if i%2 == 0 {
				continue
			}
			if m := called.FindStringSubmatch("`" + span + "`"); m != nil && strings.TrimSpace(m[1]) != "" {
				all = append(all, strings.TrimSpace(m[1]))
			}
		}
	}
	return all
}

// parses reports what is wrong with a command line, without running it.
func parses(line string) error {
	line, _, _ = strings.Cut(shellEnd.ReplaceAllString(" "+line, ""), "|")
	words := strings.Fields(line)
	if len(words) == 0 {
		return nil
	}
	root := newRootCommand(streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard})
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	if cmd == root && !strings.HasPrefix(words[0], "-") {
		return fmt.Errorf("there is no command %s", words[0])
	}
	for i, word := range rest {
		rest[i] = strings.Trim(word, "[]'\"")
	}
	return cmd.ParseFlags(rest)
}

func TestACommandThatDoesNotExistIsFound(t *testing.T) {
	for line, good := range map[string]bool{
		"pods": true, "pods -o yaml": true, "trace web -f --gaps 1s": true, "bundle [POD] -o x.mkb": true, "--v=4 ... 2>&1": true, "teach slow 10": true,
		"exec -it web -- sh -x": true, "why # of each": true,
		"podz": false, "pods --yaml": false, "trace web --gap 1s": false, "--verbosity 4": false, "ui --prot 8123": false,
	} {
		if err := parses(line); (err == nil) != good {
			t.Errorf("%s: %v", line, err)
		}
	}
	if all := commandsOf("See `mini-kubelet ui --port 1` and `not mini-kubelet`, `make run`.\n```\n$ bin/mini-kubelet pods\nmini-kubelet is a word\n```\n"); strings.Join(all, ";") != "ui --port 1;pods;is a word" {
		t.Errorf("%q", all)
	}
}
