package mesh

import (
	"time"

	"github.com/heddle-mesh/heddle/model"
)

// defaultSettings are the mesh-wide options without any policy.
func defaultSettings() *model.Settings {
	return &model.Settings{DetectionTimeout: 100 * time.Millisecond, ClusterDomain: "cluster.local"}
}
