"""Publications that the methods paragraph names, by the way it names them."""

from __future__ import annotations

from collections.abc import Mapping

REFERENCES: Mapping[str, str] = {
    "Ciresan et al. 2012": "Ciresan D, Giusti A, Gambardella L, Schmidhuber J (2012). Deep neural networks segment "
    "neuronal membranes in electron microscopy images. Advances in Neural Information Processing Systems 25.",
    "Dice 1945": "Dice L (1945). Measures of the amount of ecologic association between species. Ecology 26. "
    "doi:10.2307/1932409",
    "Drozdzal et al. 2016": "Drozdzal M, Vorontsov E, Chartrand G, Kadoury S, Pal C (2016). The importance of skip "
    "connections in biomedical image segmentation. doi:10.48550/arXiv.1608.04117",
    "Ioffe and Szegedy 2015": "Ioffe S, Szegedy C (2015). Batch normalization: accelerating deep network training by "
    "reducing internal covariate shift. doi:10.48550/arXiv.1502.03167",
    "Kirillov et al. 2019": "Kirillov A, He K, Girshick R, Rother C, Dollár P (2019). Panoptic segmentation. CVPR. "
    "doi:10.1109/CVPR.2019.00963",
    "Long et al. 2015": "Long J, Shelhamer E, Darrell T (2015). Fully convolutional networks for semantic "
    "segmentation. CVPR. doi:10.1109/CVPR.2015.7298965",
    "Loshchilov and Hutter 2019": "Loshchilov I, Hutter F (2019). Decoupled weight decay regularization. ICLR. "
    "doi:10.48550/arXiv.1711.05101",
    "Maška et al. 2014": "Maška M et al. (2014). A benchmark for comparison of cell tracking algorithms. "
    "Bioinformatics 30. doi:10.1093/bioinformatics/btu080",
    "Qiao et al. 2019": "Qiao S, Wang H, Liu C, Shen W, Yuille A (2019). Micro-batch training with batch-channel "
    "normalization and weight standardization. doi:10.48550/arXiv.1903.10520",
    "Ronneberger et al. 2015": "Ronneberger O, Fischer P, Brox T (2015). U-Net: convolutional networks for biomedical "
    "image segmentation. MICCAI. doi:10.1007/978-3-319-24574-4_28",
}
