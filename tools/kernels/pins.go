package main

import (
	"fmt"
	"regexp"
	"strings"
)

// pin is one kernel that is tested: a package of Debian's archive, named down to its content.
type pin struct {
	Line    string // as -kernel names it: "6.1"
	Arch    string // Go's name: "amd64"
	Suite   string // of Debian
	Package string
	Version string
	File    string // below the archive's top
	SHA256  string
	// others matches the names of packages that stand in for this one when the archive has it no more.
	others *regexp.Regexp
}

// pins are the kernels of `npm run test:kernels`: the oldest supported, that of Debian stable, and the newest. forky's
// package of an image is empty: the kernel is in linux-binary there.
var pins = []pin{
	{
		Line: "6.1", Arch: "amd64", Suite: "bookworm", Package: "linux-image-6.1.0-50-cloud-amd64",
		Version: "6.1.176-1",
		File:    "pool/main/l/linux-signed-amd64/linux-image-6.1.0-50-cloud-amd64_6.1.176-1_amd64.deb",
		SHA256:  "efe19f605b6f54a8352e68d85a629abb2d30b72a085faef603a9152590baa791",
		others:  regexp.MustCompile(`^linux-image-6\.1\.0-\d+-cloud-amd64$`),
	},
	{
		Line: "6.12", Arch: "amd64", Suite: "trixie", Package: "linux-image-6.12.117+deb13-cloud-amd64",
		Version: "6.12.117-1",
		File:    "pool/main/l/linux-signed-amd64/linux-image-6.12.117+deb13-cloud-amd64_6.12.117-1_amd64.deb",
		SHA256:  "e9893e5295d0549b8852611f12a4b8b5f6cc4b8128dcc2086b9847793b904ab7",
		others:  regexp.MustCompile(`^linux-image-6\.12\.\d+\+deb13-cloud-amd64$`),
	},
	{
		Line: "6.12-rt", Arch: "amd64", Suite: "trixie", Package: "linux-image-6.12.117+deb13-rt-amd64",
		Version: "6.12.117-1",
		File:    "pool/main/l/linux-signed-amd64/linux-image-6.12.117+deb13-rt-amd64_6.12.117-1_amd64.deb",
		SHA256:  "f0b20c9cc1c409f781764eae73dcf478982d2af309c6cb8b8feac4fc4967a1e1",
		others:  regexp.MustCompile(`^linux-image-6\.12\.\d+\+deb13-rt-amd64$`),
	},
	{
		Line: "7.2", Arch: "amd64", Suite: "forky", Package: "linux-binary-7.2.12+deb14-cloud-amd64",
		Version: "7.2.12-1",
		File:    "pool/main/l/linux-signed-amd64/linux-binary-7.2.12+deb14-cloud-amd64_7.2.12-1_amd64.deb",
		SHA256:  "43451b88872589d518acba127482df16fab53e2a51e92811cbd6221ca92cb6bf",
		others:  regexp.MustCompile(`^linux-binary-\d+\.\d+\.\d+\+deb14-cloud-amd64$`),
	},
	{
		Line: "7.2", Arch: "arm64", Suite: "forky", Package: "linux-binary-7.2.12+deb14-cloud-arm64",
		Version: "7.2.12-1",
		File:    "pool/main/l/linux-signed-arm64/linux-binary-7.2.12+deb14-cloud-arm64_7.2.12-1_arm64.deb",
		SHA256:  "6e25265a8f404d8332167e09cfd23728abc34c15523c8742d06d4dc31848b623",
		others:  regexp.MustCompile(`^linux-binary-\d+\.\d+\.\d+\+deb14-cloud-arm64$`),
	},
}

// findPin gives the kernel of a line and an architecture.
func findPin(line, arch string) (pin, error) {
	var have []string
	for _, p := range pins {
		if p.Line == line && p.Arch == arch {
			return p, nil
		}
		have = append(have, p.Line+" "+p.Arch)
	}
	return pin{}, fmt.Errorf("there is no pinned kernel %s for %s; there are %s (tools/kernels/pins.go)", line, arch,
		strings.Join(have, ", "))
}
