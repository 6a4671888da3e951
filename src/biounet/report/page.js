"use strict";

function viewer(figure) {
  const box = figure.querySelector(".window");
  const stage = figure.querySelector(".stage");
  const images = [...stage.querySelectorAll("img")];
  const buttons = [...figure.querySelectorAll("[data-layer]")];
  const pointers = new Map();
  let scale = 1, left = 0, top = 0;

  function place() {
    const { width, height } = box.getBoundingClientRect();
    left = Math.min(0, Math.max(width * (1 - scale), left));
    top = Math.min(0, Math.max(height * (1 - scale), top));
    stage.style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
    box.classList.toggle("zoomed", scale > 1);
  }
  function zoom(factor, x, y) {
    const next = Math.min(40, Math.max(1, scale * factor));
    left = x - (x - left) * (next / scale);
    top = y - (y - top) * (next / scale);
    scale = next;
    place();
  }
  function zoomMiddle(factor) {
    zoom(factor, box.clientWidth / 2, box.clientHeight / 2);
  }
  function reset() {
    scale = 1; left = 0; top = 0;
    place();
  }
  function show(number, visible) {
    images[number].hidden = !visible;
    buttons[number].setAttribute("aria-pressed", String(visible));
  }
  // Backgrounds take turns, layers over them come and go one by one.
  function toggle(number) {
    const button = buttons[number];
    if (!button) return;
    if (button.classList.contains("over")) { show(number, images[number].hidden); return; }
    buttons.forEach((other, k) => { if (!other.classList.contains("over")) show(k, k === number); });
  }

  buttons.forEach((button, number) => button.addEventListener("click", () => toggle(number)));
  const zooms = { in: () => zoomMiddle(1.5), out: () => zoomMiddle(1 / 1.5), reset };
  figure.querySelectorAll("[data-zoom]").forEach((button) =>
    button.addEventListener("click", zooms[button.dataset.zoom]));

  // Only a picture one has clicked on takes the wheel; otherwise the page scrolls on.
  box.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && document.activeElement !== box) return;
    event.preventDefault();
    const frame = box.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), event.clientX - frame.left, event.clientY - frame.top);
  }, { passive: false });
  box.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (scale > 1 || pointers.size > 1) box.setPointerCapture(event.pointerId);
    box.classList.add("moving");
  });
  box.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const other = [...pointers.entries()].find(([id]) => id !== event.pointerId);
    if (other) {
      const apart = (p) => Math.hypot(p.x - other[1].x, p.y - other[1].y) || 1;
      const now = { x: event.clientX, y: event.clientY };
      const frame = box.getBoundingClientRect();
      zoom(apart(now) / apart(before), (now.x + other[1].x) / 2 - frame.left, (now.y + other[1].y) / 2 - frame.top);
    } else {
      left += event.clientX - before.x;
      top += event.clientY - before.y;
      place();
    }
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  for (const name of ["pointerup", "pointercancel", "pointerleave"]) {
    box.addEventListener(name, (event) => {
      pointers.delete(event.pointerId);
      if (!pointers.size) box.classList.remove("moving");
    });
  }
  box.addEventListener("dblclick", (event) => {
    const frame = box.getBoundingClientRect();
    if (scale > 1) reset(); else zoom(3, event.clientX - frame.left, event.clientY - frame.top);
  });
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (event.key in moves && scale > 1) {
      left += moves[event.key][0]; top += moves[event.key][1];
      place();
    } else if (event.key === "+" || event.key === "=") zoomMiddle(1.5);
    else if (event.key === "-") zoomMiddle(1 / 1.5);
    else if (event.key === "0") reset();
    else if (/^[1-9]$/.test(event.key)) toggle(Number(event.key) - 1);
    else return;
    event.preventDefault();
  });
  window.addEventListener("resize", place);
}

function copyButton(button) {
  const code = button.parentElement.querySelector("code");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

document.querySelectorAll(".viewer").forEach(viewer);
document.querySelectorAll(".copy").forEach(copyButton);
