package journal

import "k8s.io/apimachinery/pkg/types"

// maxNames is of how many pods the names are remembered.
const maxNames = 4096

// names remembers which pod a UID is of. The one that was told of or has taken a step the longest ago is forgotten first.
type names struct {
	known          map[types.UID]*name
	oldest, newest *name
}

// name is one pod in the order in which they are forgotten.
type name struct {
	Who
	older, newer *name
}

func (n *names) know(w Who) {
	if of := n.known[w.UID]; of != nil {
		of.Who = w
		n.refresh(w.UID)
		return
	}
	if len(n.known) == maxNames {
		delete(n.known, n.oldest.UID)
		n.unlink(n.oldest)
	}
	of := &name{Who: w}
	n.known[w.UID] = of
	n.append(of)
}

// refresh makes the pod the last that is forgotten. It allocates nothing.
func (n *names) refresh(uid types.UID) {
	if of := n.known[uid]; of != nil && of != n.newest {
		n.unlink(of)
		n.append(of)
	}
}

func (n *names) append(of *name) {
	of.older, of.newer = n.newest, nil
	if n.newest != nil {
		n.newest.newer = of
	} else {
		n.oldest = of
	}
	n.newest = of
}

func (n *names) unlink(of *name) {
	if of.older != nil {
		of.older.newer = of.newer
	} else {
		n.oldest = of.newer
	}
	if of.newer != nil {
		of.newer.older = of.older
	} else {
		n.newest = of.older
	}
}
