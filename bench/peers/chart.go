package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
)

// The measures of the chart, in pixels.
const (
	chartWidth = 760
	labelWidth = 210
	barHeight  = 13
	groupGap   = 16
	chartTop   = 58
	chartEnd   = 48 // room for the text at the end of a bar
)

// chartStyle has the colors, for light and dark pages.
const chartStyle = `
    text { font: 13px system-ui, sans-serif; fill: #1f2328 }
    .title { font-size: 15px; font-weight: 600 }
    .note { font-size: 12px; fill: #59636e }
    .one { stroke: #59636e; stroke-dasharray: 3 3 }
    .c0 { fill: #b6d4fe } .c1 { fill: #6ea8fe } .c2 { fill: #0d6efd }
    .own.c0 { fill: #a3cfbb } .own.c1 { fill: #479f76 } .own.c2 { fill: #146c43 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 } .note { fill: #9198a1 } .one { stroke: #9198a1 }
      .c0 { fill: #084298 } .c1 { fill: #3d8bfd } .c2 { fill: #9ec5fe }
      .own.c0 { fill: #0f5132 } .own.c1 { fill: #479f76 } .own.c2 { fill: #a3cfbb }
    }
`

// chart returns the results of the first size as an SVG picture: a bar for each peer and
// number of callers.
func (r *results) chart() []byte {
	size := r.sizes[0]
	most := 1.0
	for _, callers := range r.callers {
		for _, found := range r.cells[place{size, callers}] {
			most = max(most, found.ratio)
		}
	}
	scale := (chartWidth - labelWidth - chartEnd) / most
	group := len(r.callers)*barHeight + groupGap
	height := chartTop + len(r.peers)*group
	var callers []string
	for _, count := range r.callers {
		callers = append(callers, strconv.Itoa(count))
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">`+"\n", chartWidth, height, chartWidth, height)
	fmt.Fprintf(&b, "  <title>CPU of a call, compared with grpc-go</title>\n  <style>%s  </style>\n", chartStyle)
	fmt.Fprintf(&b, `  <text class="title" x="8" y="20">CPU of a call, caller and server, for 1 on grpc-go with a deadline</text>`+"\n")
	fmt.Fprintf(&b, `  <text class="note" x="8" y="40">%s; bars from above: %s callers at once. Less is better.</text>`+"\n", sizeText(size), strings.Join(callers, ", "))
	fmt.Fprintf(&b, `  <line class="one" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>`+"\n", labelWidth+scale, chartTop-6, labelWidth+scale, height-groupGap/2)
	for i, peer := range r.peers {
		top := chartTop + i*group
		fmt.Fprintf(&b, `  <text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", labelWidth-10, top+len(r.callers)*barHeight/2+4, escaped(strings.ReplaceAll(peer.title, "*", "")))
		own := ""
		if strings.HasPrefix(peer.name, "onecall") {
			own = "own "
		}
		for j, count := range r.callers {
			ratio := r.cells[place{size, count}][i].ratio
			y := top + j*barHeight
			fmt.Fprintf(&b, `  <rect class="%sc%d" x="%d" y="%d" width="%.1f" height="%d"/>`+"\n", own, j%3, labelWidth, y, ratio*scale, barHeight-2)
			fmt.Fprintf(&b, `  <text class="note" x="%.1f" y="%d">%.2f</text>`+"\n", labelWidth+ratio*scale+6, y+barHeight-3, ratio)
		}
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// escaped returns a text as it stands in XML.
func escaped(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a builder never fails
	return b.String()
}
