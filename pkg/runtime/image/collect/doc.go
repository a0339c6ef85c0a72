// Package collect removes images that nobody uses: when the disk that holds them fills
// up, when they have not been used for long, and when eviction asks for room.
//
//	look: which are there, who uses them ─▶ plan: which go, in which order ─▶ remove ─▶ measure
//
// An image is in use while a container is made from it, also a stopped one, while one has
// it mounted, and while a pod that this node is to run names it. Images that are in use
// or that the runtime says are pinned are never removed. When an image was first seen and
// last used is kept in memory, as in the kubelet: an agent that starts knows nothing yet,
// and removes nothing before the minimum age is over, nor before every source of pods has spoken.
//
// What the runtime refuses to remove, because others use it, counts as in use.
package collect
