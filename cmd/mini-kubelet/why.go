package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/mini-kubelet/mini-kubelet/pkg/server"
	"github.com/mini-kubelet/mini-kubelet/pkg/server/why"
)

const whyHelp = `Say of each pod that does not run and is not ready why that is so: the cause and its evidence, what
mends it, in which file and line, and when it is tried again. Manifests that are refused are told
as well. Nothing is said of pods that run as wanted.

It ends with 1 if there is anything to say, and with 0 if not. The agent answers at its socket alone.`

func newWhyCommand() *cobra.Command {
	var f podFlags
	var format string
	cmd := &cobra.Command{
		Use:   "why [POD]",
		Short: "Say why pods do not run as wanted, and what mends that",
		Long:  whyHelp,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.server != "" {
				return errors.New("the agent says why at its own socket only: run this on its machine, without --server")
			}
			c, err := f.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			if f.namespace != "" {
				query.Set("namespace", f.namespace)
			}
			if len(args) == 1 {
				query.Set("pod", bareName(args[0]))
			}
			var report why.Report
			if err := c.getJSON(cmd.Context(), &report, c.url(query, server.WhyPath)); err != nil {
				return err
			}
			if format != "" {
				err = writeObject(cmd.OutOrStdout(), format, report)
			} else {
				err = printWhy(cmd.OutOrStdout(), report, time.Now())
			}
			if err == nil && len(report.Findings) > 0 {
				return exitCode{code: 1}
			}
			return err
		},
	}
	f.addTo(cmd)
	addOutputFlag(cmd, &format, "json", "yaml")
	cmd.Flags().Lookup("output").Usage = "form of the output: json, yaml; sentences when empty"
	return cmd
}

// printWhy prints a sentence a finding, each after the name of what it is about.
func printWhy(out io.Writer, report why.Report, now time.Time) error {
	width := 0
	names := make([]string, len(report.Findings))
	for i := range report.Findings {
		f := &report.Findings[i]
		names[i] = f.Name
		if f.Namespace != "" && f.Namespace != "default" {
			names[i] = f.Namespace + "/" + f.Name
		}
		if f.Kind != "Pod" && f.Kind != "File" && f.Kind != "" {
			names[i] = f.Kind + " " + names[i]
		}
		width = max(width, min(len(names[i]), maxNameColumn))
	}
	for i := range report.Findings {
		if _, err := fmt.Fprintf(out, "%-*s   %s\n", width, names[i], report.Findings[i].Sentence(now)); err != nil {
			return err
		}
	}
	rest := "All others run as wanted."
	if len(report.Findings) == 0 {
		rest = "All pods run as wanted."
	}
	if report.Healthy == 0 && len(report.Findings) > 0 {
		return nil
	}
	_, err := fmt.Fprintln(out, rest)
	return err
}

// maxNameColumn is how far a long name moves the sentences.
const maxNameColumn = 40
