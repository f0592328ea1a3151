// Package writeback tells the writers of policies what became of them: by annotations of their ConfigMaps, and by Events.
// It is the only way back from the mesh into what people write.
//
//	status.heddle.dev/accepted  "true" if every document of the ConfigMap is in force as it stands there
//	status.heddle.dev/message   why not, and every problem with its place, code and next step
//	status.heddle.dev/hash      of the documents that this speaks of
//
// [Of] computes them, from what package mesh says and from nothing else; [Writer] writes them, where they differ, by
// server-side apply. Nothing here decides anything: the control plane never reads its own annotations.
package writeback
