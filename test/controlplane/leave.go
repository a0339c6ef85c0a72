package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
)

// joined is what Join records, in the machine's directory, before it changes
// anything. Leave does nothing without it, and nothing beyond it.
type joined struct {
	Dirs []string `json:"dirs"` // those of the directories below that existed, empty
	CA   string   `json:"ca"`   // CAHash of the cluster
	Args []string `json:"args"` // Machine.Args
}

// JoinedFile is the record's name in Machine.Dir.
const JoinedFile = "joined.json"

// The directories of this machine that kubeadm and the agent write to. Of two nested
// ones the inner comes first.
var (
	// Here a file of somebody else's means that the machine is taken: kubeadm gives up,
	// or the agent takes the file for its own.
	exclusive = []string{
		kubernetesDir + "/pki", kubernetesDir + "/manifests", kubernetesDir,
		kubeletDir, "/var/lib/dockershim",
	}
	// Here the agent uses only names of its own.
	shared = []string{
		"/var/log/pods", "/var/log/containers", "/var/lib/cni/cache", "/var/lib/cni",
	}
)

// Occupied returns why the machine cannot be made a node: it is or was one, or
// somebody keeps files where a node has its own.
func (m Machine) Occupied() error {
	for _, dir := range exclusive {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot tell whether this machine is a node: %w", err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			// Kubernetes packages install empty directories.
			if below, err := os.ReadDir(path); err != nil || len(below) > 0 && !slices.Contains(exclusive, path) {
				return fmt.Errorf("%s exists: this machine is or was a node", path)
			}
		}
	}
	if path, ok := strings.CutPrefix(m.socket(), "unix://"); ok && m.Socket == "" {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s exists: another dockershim runs on this machine, or ran", path)
		}
	}
	// The kubelet's API, and its health endpoint, which kubeadm asks.
	for _, address := range []string{":10250", "127.0.0.1:10248"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("a kubelet runs on this machine: %w", err)
		}
		l.Close()
	}
	return nil
}

// record checks that the machine is free, claims the directory for it, and records
// what Leave will need.
func (c *Cluster) record(m Machine, dir string) error {
	if exists(filepath.Join(dir, JoinedFile)) {
		return errors.New("this machine has been made a node before: undo that first")
	}
	if err := m.Occupied(); err != nil {
		return err
	}
	ca, err := c.CAHash()
	if err != nil {
		return err
	}
	if err := claim(dir); err != nil {
		return err
	}
	j := joined{CA: ca, Args: m.Args}
	for _, place := range append(exclusive[:len(exclusive):len(exclusive)], shared...) {
		if exists(place) {
			j.Dirs = append(j.Dirs, place)
		}
		entries, err := os.ReadDir(place)
		if err != nil || slices.Contains(shared, place) {
			continue
		}
		for _, e := range entries {
			j.Dirs = append(j.Dirs, filepath.Join(place, e.Name()))
		}
	}
	text, err := json.Marshal(j)
	if err != nil {
		return err
	}
	return durable.Write(filepath.Join(dir, JoinedFile), text)
}

// Leave undoes Join: the node object, the agent, its pods and what kubeadm wrote.
// It does nothing on a machine that Join has not made a node.
func (c *Cluster) Leave(ctx context.Context, m Machine, out io.Writer) error {
	m = c.with(m)
	if !exists(filepath.Join(m.Dir, JoinedFile)) {
		return nil
	}
	name, err := m.name()
	if err != nil {
		return err
	}
	if c.apiServer.pid() != 0 {
		client, err := c.Client()
		if err == nil {
			err = client.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{})
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return errors.Join(err, m.Leave(ctx, out))
		}
	}
	return m.Leave(ctx, out)
}

// Leave undoes on the machine what Join has done there, by the record in m.Dir: without a
// record it does nothing, and it leaves alone what existed before Join or has become
// somebody else's since. It can be repeated after dying between any two of its steps.
func (m Machine) Leave(ctx context.Context, out io.Writer) error {
	agent, err := m.agent()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(agent.dir, JoinedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var j joined
	if err == nil {
		err = json.Unmarshal(text, &j)
	}
	if err != nil {
		return fmt.Errorf("read what was done to this machine: %w", err)
	}
	if err := agent.stop(stopPatience); err != nil {
		return err
	}
	if err := j.stillOurs(); err != nil {
		return err
	}
	if exists(agent.path) {
		text, err := run(ctx, agent.dir, m.env(), agent.path, append([]string{"reset", "--yes"}, j.Args...)...)
		fmt.Fprint(out, text)
		if err != nil {
			return err // what still runs may need the rest
		}
	}
	if err := j.removeFiles(); err != nil {
		return err
	}
	for _, dir := range append(exclusive[:len(exclusive):len(exclusive)], shared...) {
		if !slices.Contains(j.Dirs, dir) {
			_ = os.Remove(dir) // stays if somebody else has something in it
		}
	}
	return os.RemoveAll(agent.dir)
}

// stillOurs returns an error if the machine has become a node of another cluster than the
// one that it joined: we must not remove that cluster's files.
func (j joined) stillOurs() error {
	cas := map[string][]byte{}
	path := filepath.Join(kubernetesDir, "pki", "ca.crt")
	text, err := os.ReadFile(path)
	if err == nil {
		cas[path] = text
	}
	for _, name := range []string{"bootstrap-kubelet.conf", "kubelet.conf"} {
		path := filepath.Join(kubernetesDir, name)
		config, err := clientcmd.LoadFromFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%w; nothing is undone", err)
		}
		for _, cluster := range config.Clusters {
			if cas[path] = cluster.CertificateAuthorityData; len(cas[path]) == 0 {
				cas[path], _ = os.ReadFile(cluster.CertificateAuthority)
			}
		}
	}
	for path, text := range cas {
		if hash, err := caHash(text); err != nil || hash != j.CA {
			return fmt.Errorf("%s is of another cluster: this machine has become its node since; nothing is undone", path)
		}
	}
	return nil
}

// removeFiles removes what kubeadm and the agent have written, by name: none of it
// existed when Join began.
func (j joined) removeFiles() error {
	files := []string{
		kubernetesDir + "/kubelet.conf", kubernetesDir + "/bootstrap-kubelet.conf", kubernetesDir + "/pki/ca.crt",
		kubeletDir + "/config.yaml", kubeletDir + "/instance-config.yaml", kubeletDir + "/kubeadm-flags.env",
	}
	pki, err := filepath.Glob(kubeletDir + "/pki/kubelet*")
	errs := []error{err}
	for _, path := range append(files, pki...) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if dir := kubeletDir + "/pki"; !slices.Contains(j.Dirs, dir) {
		_ = os.Remove(dir)
	}
	return errors.Join(errs...)
}
