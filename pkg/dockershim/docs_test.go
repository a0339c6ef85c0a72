package dockershim

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// whole are messages that the page gives one verdict.
var whole = map[protoreflect.FullName]bool{
	"runtime.v1.PodSandboxMetadata": true, "runtime.v1.DNSConfig": true, "runtime.v1.PortMapping": true, "runtime.v1.NamespaceOption": true,
	"runtime.v1.SELinuxOption": true, "runtime.v1.Int64Value": true, "runtime.v1.SecurityProfile": true, "runtime.v1.WindowsPodSandboxConfig": true,
	"runtime.v1.ContainerMetadata": true, "runtime.v1.ImageSpec": true, "runtime.v1.KeyValue": true, "runtime.v1.Device": true, "runtime.v1.IDMapping": true,
	"runtime.v1.HugepageLimit": true, "runtime.v1.Capability": true, "runtime.v1.WindowsContainerConfig": true, "runtime.v1.CDIDevice": true,
}

// TestDocsNameEverything holds docs/cri.md against the API.
func TestDocsNameEverything(t *testing.T) {
	text, err := os.ReadFile("../../docs/cri.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range []any{(*cri.RuntimeServiceServer)(nil), (*cri.ImageServiceServer)(nil)} {
		s := reflect.TypeOf(service).Elem()
		for i := range s.NumMethod() {
			if name := s.Method(i).Name; s.Method(i).IsExported() && !strings.HasPrefix(name, "mustEmbed") {
				want(t, string(text), name)
			}
		}
	}
	for _, m := range []proto.Message{&cri.PodSandboxConfig{}, &cri.ContainerConfig{}} {
		_, page, _ := strings.Cut(string(text), "## "+string(m.ProtoReflect().Descriptor().Name()))
		page, _, _ = strings.Cut(page, "\n## ")
		for _, path := range leaves(m.ProtoReflect().Descriptor(), "") {
			// resources and overhead of a sandbox have one verdict each.
			if _, ok := m.(*cri.PodSandboxConfig); ok && (strings.HasPrefix(path, "linux.resources.") || strings.HasPrefix(path, "linux.overhead.")) {
				path = path[:strings.LastIndex(path, ".")]
			}
			want(t, page, path)
		}
	}
}

func want(t *testing.T, page, name string) {
	t.Helper()
	if !strings.Contains(page, "| `"+name+"` |") {
		t.Errorf("docs/cri.md says nothing of %s", name)
	}
}

// leaves lists the fields of a message, and of those within it.
func leaves(m protoreflect.MessageDescriptor, prefix string) []string {
	var all []string
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		path := prefix + string(f.Name())
		if f.Message() != nil && !f.IsMap() && !whole[f.Message().FullName()] {
			all = append(all, leaves(f.Message(), path+".")...)
			continue
		}
		all = append(all, path)
	}
	return all
}
