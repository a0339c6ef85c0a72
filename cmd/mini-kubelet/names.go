package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// podFlags are those of the commands that are about one pod.
type podFlags struct {
	connection
	namespace string
}

func (f *podFlags) addTo(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.namespace, "namespace", "n", "", "namespace of the pod; any when empty")
	f.connection.addTo(cmd)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return f.complete(cmd.Context()), cobra.ShellCompDirectiveNoFileComp
	}
}

// complete lists what a pod can be called, for the shell.
func (f *podFlags) complete(ctx context.Context) []string {
	c, err := f.client()
	if err != nil {
		return nil
	}
	list, err := c.pods(ctx)
	if err != nil {
		return nil
	}
	var names []string
	for i := range list.Items {
		if p := &list.Items[i]; f.namespace == "" || p.Namespace == f.namespace {
			names = append(names, p.Name)
		}
	}
	return names
}

// find returns the agent, and the pod that is meant.
func (f *podFlags) find(ctx context.Context, name string) (*agentClient, *v1.Pod, error) {
	c, err := f.client()
	if err != nil {
		return nil, nil, err
	}
	list, err := c.pods(ctx)
	if err != nil {
		return nil, nil, err
	}
	p, err := findPod(list.Items, f.namespace, name)
	return c, p, err
}

// findPod returns the pod of that name. "pod/" may stand before it; a namespace of "" is any; and
// a static pod is also known by its manifest's name, to which the node adds its own.
func findPod(all []v1.Pod, namespace, name string) (*v1.Pod, error) {
	name = bareName(name)
	var exact, short []*v1.Pod
	for i := range all {
		switch p := &all[i]; {
		case namespace != "" && p.Namespace != namespace:
		case p.Name == name:
			exact = append(exact, p)
		case pods.IsStatic(p) && p.Name == name+"-"+p.Spec.NodeName:
			short = append(short, p)
		}
	}
	found := exact
	if len(found) == 0 {
		found = short
	}
	// One that is being replaced has its successor's name.
	if alive := slices.DeleteFunc(slices.Clone(found), func(p *v1.Pod) bool { return p.DeletionTimestamp != nil }); len(alive) > 0 {
		found = alive
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fmt.Errorf("the agent has no pod %q%s; %s", name, inNamespace(namespace), instead(all, namespace, name))
	}
	var names []string
	for _, p := range found {
		names = append(names, p.Namespace+"/"+p.Name)
	}
	return nil, fmt.Errorf("%q is the name of several pods, %s: choose one with --namespace", name, strings.Join(names, ", "))
}

// bareName is a name without the kind that may stand before it, as in kubectl.
func bareName(name string) string {
	for _, kind := range []string{"pod/", "pods/", "po/"} {
		if rest, ok := strings.CutPrefix(name, kind); ok {
			return rest
		}
	}
	return name
}

func inNamespace(namespace string) string {
	if namespace == "" {
		return ""
	}
	return fmt.Sprintf(" in namespace %q", namespace)
}

// mostNear is how many names a message gives.
const mostNear = 5

// instead says which pods may have been meant.
func instead(all []v1.Pod, namespace, name string) string {
	type candidate struct {
		name     string
		distance int
	}
	var near []candidate
	for i := range all {
		p := &all[i]
		bare := strings.TrimSuffix(p.Name, "-"+p.Spec.NodeName)
		d := min(distance(name, p.Name), distance(name, bare))
		if d <= max(2, len(name)/3) || len(name) > 1 && strings.Contains(p.Name, name) {
			near = append(near, candidate{p.Namespace + "/" + p.Name, d})
		}
	}
	if len(near) == 0 {
		return "`mini-kubelet pods` lists those it has"
	}
	slices.SortFunc(near, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.name, b.name))
	})
	var names []string
	for _, c := range near[:min(len(near), mostNear)] {
		names = append(names, c.name)
	}
	return "near it: " + strings.Join(names, ", ")
}

// distance is how many letters differ between two names (Levenshtein). Names have at most 253 letters;
// longer ones are as far away as can be.
func distance(a, b string) int {
	if len(a) > 253 || len(b) > 253 {
		return max(len(a), len(b))
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			here := row[j+1]
			if a[i] != b[j] {
				before++
			}
			row[j+1] = min(before, here+1, row[j]+1)
			before = here
		}
	}
	return row[len(b)]
}

// defaultContainer is kubectl's annotation for the container that is meant when none is named.
const defaultContainer = "kubectl.kubernetes.io/default-container"

// chooseContainer returns the container that is meant, by kubectl's rules, and what to tell the
// user about it if he named none of several.
func chooseContainer(p *v1.Pod, name string) (container, note string, err error) {
	all := containerNames(p)
	if name != "" {
		if !slices.Contains(all, name) {
			return "", "", fmt.Errorf("container %s is not valid for pod %s: it has %s", name, p.Name, strings.Join(all, ", "))
		}
		return name, "", nil
	}
	if byDefault := p.Annotations[defaultContainer]; slices.Contains(all, byDefault) {
		return byDefault, "", nil
	}
	if len(p.Spec.Containers) == 0 {
		return "", "", fmt.Errorf("pod %s has no containers", p.Name)
	}
	first := p.Spec.Containers[0].Name
	if len(all) > 1 {
		note = fmt.Sprintf("Defaulted container %q out of: %s", first, strings.Join(all, ", "))
	}
	return first, note, nil
}

// containerNames are a pod's containers in kubectl's order.
func containerNames(p *v1.Pod) []string {
	var all []string
	for _, c := range p.Spec.Containers {
		all = append(all, c.Name)
	}
	for _, c := range p.Spec.InitContainers {
		all = append(all, c.Name)
	}
	for _, c := range p.Spec.EphemeralContainers {
		all = append(all, c.Name)
	}
	return all
}
